"""Global ids (Relay): `TypeName:uuid` in base64."""

from uuid import UUID

from django.utils.translation import gettext as _
from strawberry.relay import from_base64, to_base64

from marketplace.errors import NotFound


class ByPrimaryKey:
    """For node types: their ids hold primary keys. Finding that out by their annotations, for each id anew, is slow."""

    @classmethod
    def resolve_id_attr(cls) -> str:
        return "pk"


def global_id(type_name: str, row: UUID) -> str:
    return to_base64(type_name, str(row))


def parse_global_id(text: str) -> tuple[str, UUID] | None:
    """(type name, primary key), or None for what is not a global id."""
    try:
        type_name, key = from_base64(text)
        return type_name, UUID(key)
    except ValueError:
        return None


def primary_key(text: str, type_name: str, *, path: str) -> UUID:
    """The primary key in a global id of that type. Raises NotFound for another type's id, and for no id at all."""
    parsed = parse_global_id(text)
    if parsed is None or parsed[0] != type_name:
        raise NotFound(_("There is no such object, or it is not yours to see."), path=path)
    return parsed[1]

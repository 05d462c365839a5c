"""The scalars of the contract: what each looks like in JSON, and what is refused on the way in."""

import datetime
import decimal
from typing import Any, NewType

import strawberry
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)
Upload = NewType("Upload", "UploadedFile[bytes]")


def _read_datetime(value: object) -> datetime.datetime:
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
            return moment.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            pass
    raise GraphQLError(_("A DateTime is ISO 8601 in UTC, as in 2030-01-31T12:00:00Z."))


def write_datetime(value: datetime.datetime) -> str:
    return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def _read_decimal(value: object) -> decimal.Decimal:
    """A float has lost what it stood for before it arrives, so only strings and integers are read."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            number = decimal.Decimal(value)
        except decimal.InvalidOperation:
            number = decimal.Decimal("NaN")
        if number.is_finite() and abs(number.adjusted()) <= 30:
            return number
    raise GraphQLError(_('A Decimal is a string in decimal notation, as in "12.50".'))


def write_decimal(value: decimal.Decimal) -> str:
    return f"{value.normalize():f}"


def _read_bigint(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise GraphQLError(_("A BigInt is an integer of at most 64 bits."))


def _read_upload(value: object) -> "UploadedFile[bytes]":
    """No JSON has one: it is put there by multipart.py."""
    if isinstance(value, UploadedFile):
        return value
    raise GraphQLError(_("An Upload is a file of a multipart/form-data request, and null in its `operations`."))


def _same(value: Any) -> Any:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    datetime.datetime: strawberry.scalar(
        name="DateTime", description="ISO 8601, UTC.", serialize=write_datetime, parse_value=_read_datetime
    ),
    decimal.Decimal: strawberry.scalar(
        name="Decimal",
        description="Money and metered units, as a string: never a float.",
        serialize=write_decimal,
        parse_value=_read_decimal,
    ),
    Upload: strawberry.scalar(
        name="Upload",
        description="A file, sent as the GraphQL multipart request specification has it "
        "(github.com/jaydenseric/graphql-multipart-request-spec): 32 MiB with everything around it.",
        specified_by_url="https://github.com/jaydenseric/graphql-multipart-request-spec",
        serialize=_same,
        parse_value=_read_upload,
    ),
    BigInt: strawberry.scalar(
        name="BigInt", description="An integer of 64 bits.", serialize=_same, parse_value=_read_bigint
    ),
}

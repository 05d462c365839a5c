"""What callers of a version that is to go are told with each answer: RFC 9745's Deprecation, RFC 8594's Sunset."""

from django.utils.http import http_date

from marketplace.catalog.models import ModelVersion
from marketplace.edge import Headers


def metadata_of(version: ModelVersion) -> tuple[tuple[str, str], ...]:
    """As gRPC's metadata. Nothing for a version that is to stay."""
    if version.deprecated_at is None:
        return ()
    # A date of RFC 9651: seconds since 1970.
    fields = (("deprecation", f"@{int(version.deprecated_at.timestamp())}"),)
    return fields if version.sunset_at is None else (*fields, ("sunset", http_date(version.sunset_at.timestamp())))


def header_fields(version: ModelVersion) -> Headers:
    return [(name.encode(), value.encode()) for name, value in metadata_of(version)]

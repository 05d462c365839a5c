"""Files in a request, as github.com/jaydenseric/graphql-multipart-request-spec (version 2) has them.

The field `operations` is what would be the JSON body, null where a file belongs; `map` says which file belongs where.
Both come from a stranger: a file goes where a variable is null, and nowhere else.
"""

from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext as _

MEDIA_TYPE = "multipart/form-data"
# All of the body; what is larger is for createUpload.
MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_FILES = 10


class MultipartError(Exception):
    """A request that does not keep to the specification."""


def fields(request: HttpRequest) -> tuple[bytes, bytes]:
    """`operations` and `map`, undecoded. Reads and parses the body: not for the event loop."""
    try:
        operations, places = request.POST.get("operations"), request.POST.get("map")
    except (MultiPartParserError, SuspiciousOperation, UnreadablePostError) as error:
        raise MultipartError(_("The body is not multipart/form-data (RFC 7578).")) from error
    if operations is None or places is None:
        raise MultipartError(_("The body needs the fields `operations` and `map`, ahead of its files."))
    return operations.encode(), places.encode()


def placed(operations: Any, places: Any, request: HttpRequest) -> Any:
    """`operations` with each of the request's files where `map` wants it."""
    if not isinstance(places, dict) or len(places) > MAX_FILES:
        raise MultipartError(_("`map` is an object of at most %(most)d files.") % {"most": MAX_FILES})
    for name, paths in places.items():
        file = request.FILES.get(name)
        if file is None:
            raise MultipartError(_("`map` names a file that is not in the body."))
        if not isinstance(paths, list) or len(paths) != 1:
            raise MultipartError(_("`map` names one place for each file, in a list."))
        _place(operations, paths[0], file)
    return operations


def _place(operations: Any, path: Any, file: object) -> None:
    first, *words = path.split(".") if isinstance(path, str) else [None]
    within, key = operations, _key(operations, first)
    for word in words:
        if key is None:
            break
        within = within[key]
        key = _key(within, word)
    if first != "variables" or not words or key is None or within[key] is not None:
        raise MultipartError(_("`map` names a place that is no variable, or not null."))
    within[key] = file


def _key(within: Any, word: Any) -> str | int | None:
    """None for what is not there."""
    if isinstance(within, dict):
        return word if word in within else None
    if isinstance(within, list) and word.isascii() and word.isdigit() and len(word) < 5 and int(word) < len(within):
        return int(word)
    return None

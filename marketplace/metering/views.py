"""The public key that receipts are signed with, for whoever checks one."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from .signing import public_jwk


@require_safe
@cache_control(public=True, max_age=3600)
def jwks(request: HttpRequest) -> JsonResponse:
    """A JWK Set (RFC 7517, section 5)."""
    return JsonResponse({"keys": [public_jwk()]}, content_type="application/jwk-set+json")

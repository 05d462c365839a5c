"""What all that changes something has in common: somebody signed in, and expected failures as data."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from asgiref.sync import sync_to_async
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.errors import MarketplaceError, Unauthenticated

from .context import Info
from .errors import Problem, problem_of


class Payload(Protocol):
    """A payload type: `errors`, and what the mutation changed, null when there are any."""

    def __init__(self, *, errors: list[Problem]) -> None: ...


P = TypeVar("P", bound=Payload)
Resolver = Callable[..., P] | Callable[..., Awaitable[P]]


def signed_in(info: Info) -> Principal:
    """Who asks. Raises Unauthenticated for nobody."""
    if info.context.principal.tenant_id is None:
        raise Unauthenticated(_("Sign in, or send an API key as `Authorization: Bearer <key>`."))
    return info.context.principal


def expected_failures(payload: type[P]) -> Callable[[Resolver[P]], Callable[..., Awaitable[P]]]:
    """Turns the MarketplaceErrors of a resolver into the payload's `errors`, all but Unauthenticated.

    The resolver takes (root, info, input). A synchronous one runs in Django's thread. Use it under strawberry.mutation:

        @strawberry.mutation
        @expected_failures(RevokeApiKeyPayload)
        def revoke_api_key(self, info: Info, input: RevokeApiKeyInput) -> RevokeApiKeyPayload: ...
    """

    def decorate(resolver: Resolver[P]) -> Callable[..., Awaitable[P]]:
        run: Callable[..., Awaitable[Any]] = (
            resolver if inspect.iscoroutinefunction(resolver) else sync_to_async(resolver)
        )

        @functools.wraps(resolver)
        async def resolve(self: object, info: Info, **arguments: Any) -> P:
            signed_in(info)
            try:
                answer: P = await run(self, info, **arguments)
            except Unauthenticated:
                raise
            except MarketplaceError as error:
                return payload(errors=[problem_of(error)])
            return answer

        return resolve

    return decorate

"""Who asks, and in which request: what every resolver is given."""

from dataclasses import dataclass

import psycopg
import strawberry
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.edge import bearer
from marketplace.errors import ModelUnavailable
from marketplace.tenants.authentication import principal_from_key, principal_from_session

DATABASE_IS_AWAY = (OperationalError, InterfaceError, psycopg.OperationalError)

_ATTRIBUTE = "_graphql_context"


@dataclass(slots=True)
class Context:
    """`principal` is resolved once for each HTTP request; only `actForTenant` changes it."""

    request: HttpRequest
    principal: Principal

    @property
    def caller(self) -> str:
        """Whose calls under way are counted together: the API key's, else the person's."""
        return bearer(self.request.headers.get("Authorization")) or str(self.principal.user_id)


Info = strawberry.Info[Context, None]


async def context_of(request: HttpRequest) -> Context:
    """Raises Unauthenticated for an API key that is not valid, ModelUnavailable when the database is away."""
    context: Context | None = getattr(request, _ATTRIBUTE, None)
    if context is None:
        secret = bearer(request.headers.get("Authorization"))
        try:
            if secret is None:
                principal = await sync_to_async(principal_from_session)(request)
            else:
                principal = await sync_to_async(principal_from_key)(secret)
        except DATABASE_IS_AWAY as error:
            raise records_out_of_reach() from error
        context = Context(request, principal)
        setattr(request, _ATTRIBUTE, context)
    return context


def records_out_of_reach() -> ModelUnavailable:
    return ModelUnavailable(
        _("The marketplace cannot reach its records just now. Try again shortly."), retry_after_ms=1000
    )

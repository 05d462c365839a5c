"""From a document to an answer: the one way to the schema, whether by HTTP or from a page in this process."""

from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from graphql import GraphQLError, OperationType, get_operation_ast

from marketplace.errors import MarketplaceError

from .context import Context, context_of
from .errors import formatted, request_error
from .limits import RefusedError, check_size, prepared
from .schema import schema


@dataclass(frozen=True, slots=True)
class Answer:
    """`errors` as GraphQL has them, empty when there are none. Not `executed`: the request itself was refused."""

    data: dict[str, Any] | None
    errors: list[dict[str, Any]]
    executed: bool = True


class MutationRefusedError(Exception):
    """The document's operation changes something where only reading is allowed."""


async def execute(request: HttpRequest, document: str, variables: dict[str, Any] | None = None) -> Answer:
    """A page's way in: the document, run as the visitor, under the limits and rules of the API."""
    try:
        context = await context_of(request)
    except MarketplaceError as error:
        return Answer(None, [request_error(error)], executed=False)
    return await run(context, document, variables)


async def run(
    context: Context,
    document: str,
    variables: dict[str, Any] | None = None,
    operation_name: str | None = None,
    *,
    only_queries: bool = False,
) -> Answer:
    """Raises MutationRefusedError with `only_queries`; every other failure is in the answer."""
    graphql_schema = schema._schema
    variables = variables or {}
    try:
        parsed = prepared(graphql_schema, document, introspection=settings.GRAPHQL_INTROSPECTION)
        operation = get_operation_ast(parsed, operation_name)
        if operation is None:
            raise RefusedError([GraphQLError(_("Name one of the document's operations in `operationName`."))])
        reads = operation.operation is OperationType.QUERY
        if only_queries and not reads:
            raise MutationRefusedError
        check_size(graphql_schema, parsed, operation, variables)
    except RefusedError as refused:
        return Answer(None, formatted(refused.errors), executed=False)
    # graphql-core executes synchronously in much less time, and Django's ORM wants a thread in any case. Mutations stay
    # in the event loop: an inference that is awaited there holds no thread and is cancelled with its request.
    run_it = sync_to_async(schema.execute_sync) if reads else schema.execute
    result = await run_it(
        document,
        variable_values=variables,
        context_value=context,
        operation_name=operation_name,
        operation_extensions={"document": parsed},
    )
    errors = result.errors or []
    executed = result.data is not None or not errors or any(error.path for error in errors)
    return Answer(result.data, formatted(errors), executed=executed)

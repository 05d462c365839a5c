"""From a document to an answer: the one way to the schema, whether by HTTP, by WebSocket or from a page."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from graphql import DocumentNode, GraphQLError, OperationType, get_operation_ast

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


@dataclass(frozen=True, slots=True)
class Operation:
    """What is to be executed: within the limits, and valid."""

    document: str
    parsed: DocumentNode
    kind: OperationType
    name: str | None
    variables: dict[str, Any]


async def execute(request: HttpRequest, document: str, variables: dict[str, Any] | None = None) -> Answer:
    """A page's way in: the document, run as the visitor, under the limits and rules of the API."""
    try:
        context = await context_of(request)
    except MarketplaceError as error:
        return Answer(None, [request_error(error)], executed=False)
    return await run(context, document, variables)


async def run(
    context: Context, document: str, variables: dict[str, Any] | None = None, operation_name: str | None = None
) -> Answer:
    try:
        operation = opened(document, variables, operation_name)
    except RefusedError as error:
        return refusal(error)
    return await answer(context, operation)


def opened(document: str, variables: dict[str, Any] | None = None, operation_name: str | None = None) -> Operation:
    """Raises RefusedError."""
    graphql_schema = schema._schema
    variables = variables or {}
    parsed = prepared(graphql_schema, document, introspection=settings.GRAPHQL_INTROSPECTION)
    operation = get_operation_ast(parsed, operation_name)
    if operation is None:
        raise RefusedError([GraphQLError(_("Name one of the document's operations in `operationName`."))])
    check_size(graphql_schema, parsed, operation, variables)
    return Operation(document, parsed, operation.operation, operation_name, variables)


def refusal(error: RefusedError) -> Answer:
    return Answer(None, formatted(error.errors), executed=False)


async def answer(context: Context, operation: Operation) -> Answer:
    """Of a query or a mutation; every failure is in it."""
    # graphql-core executes synchronously in much less time, and Django's ORM wants a thread in any case. Mutations stay
    # in the event loop: an inference that is awaited there holds no thread and is cancelled with its request.
    reads = operation.kind is OperationType.QUERY
    run_it = sync_to_async(schema.execute_sync) if reads else schema.execute
    return _answer(await run_it(operation.document, **_arguments(context, operation)))


async def answers(context: Context, operation: Operation) -> AsyncGenerator[Answer]:
    """One of a query or a mutation, as many of a subscription as its events. Closing it ends what still runs."""
    if operation.kind is not OperationType.SUBSCRIPTION:
        yield await answer(context, operation)
        return
    async with aclosing(await schema.stream(operation.document, **_arguments(context, operation))) as results:
        async for result in results:
            yield _answer(result)


def _arguments(context: Context, operation: Operation) -> dict[str, Any]:
    return {
        "variable_values": operation.variables,
        "context_value": context,
        "operation_name": operation.name,
        "operation_extensions": {"document": operation.parsed},
    }


def _answer(result: Any) -> Answer:
    errors = result.errors or []
    executed = result.data is not None or not errors or any(error.path for error in errors)
    return Answer(result.data, formatted(errors), executed=executed)


def content(answer: Answer) -> dict[str, Any]:
    parts: dict[str, Any] = {"errors": answer.errors} if answer.errors else {}
    if answer.executed:
        parts["data"] = answer.data
    return parts


def encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

"""A validated operation that only invokes, as a plan of closures: the general executor costs more than an inference.

Which fields are selected is decided by graphql-core's own functions, once for each document (and once for each
combination of the variables in its @skip and @include); only the walk over the answer is ours. Whatever is not
understood here, or would be an error before anything was invoked, is no plan: the general executor answers it.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    get_operation_ast,
    is_leaf_type,
    located_error,
    print_ast,
    visit,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values

from inference.invocation import Invocation
from inference.tensors import Tensor
from marketplace.access import Principal
from marketplace.errors import MarketplaceError, Unauthenticated
from marketplace.metering.admission import Moved

from .errors import formatted, problem_of
from .execution import Answer
from .inputs import coerced, usual
from .invocation import InvokeModelInput, deliver
from .limits import RefusedError, check_size, prepared
from .metering import InvocationStatus
from .nodes import global_id
from .scalars import write_datetime, write_decimal
from .schema import schema

MAX_COERCION_ERRORS = 50  # as many as `graphql.execute` finds; none of them is told from here

Project = Callable[[Any], Any]

_INVOCATION: dict[str, Project] = {
    "id": lambda done: global_id("Invocation", done.id),
    "status": lambda _done: InvocationStatus.SUCCEEDED.name,
    "unit": lambda done: done.unit,
    "units": lambda done: write_decimal(done.units),
    "latencyMs": lambda done: done.latency_ms,
    "createdAt": lambda done: write_datetime(done.created_at),
}
_TENSOR: dict[str, Project] = {
    "name": lambda tensor: tensor.name,
    "datatype": lambda tensor: tensor.datatype.value,
    "shape": lambda tensor: list(tensor.shape),
    "data": Tensor.data,
    "base64": Tensor.base64,
}


_NO_VALUES = VariableValues({}, {})


class Call(NamedTuple):
    """One `invokeModel`: where its answer goes, what it is given, and how its answer is drawn."""

    key: str
    nodes: list[FieldNode]
    input: InvokeModelInput
    delivered: Project
    refused: Callable[[MarketplaceError], Any]


class _NotUnderstoodError(Exception):
    """The general executor answers this."""


class Plan:
    def __init__(self, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._operation = operation
        self._fragments = {
            node.name.value: FragmentDetails(node)
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._switches = _switches(document)
        self._variable = _only_variable(operation)
        self._shapes: dict[tuple[Any, ...], list[_Shape] | None] = {}

    def calls(self, variables: dict[str, Any]) -> list[Call] | None:
        """What is to be invoked, in order; None when it is for the general executor to answer."""
        if self._variable is not None:
            given = usual(variables.get(self._variable))
            # No other variable: the document's shape is always the same.
            shapes = self._shaped(_NO_VALUES) if given is not None else None
            if given is not None and shapes is not None and all(shape.takes_variable for shape in shapes):
                return [Call(shape.key, shape.nodes, given, shape.delivered, shape.refused) for shape in shapes]
        values = get_variable_values(
            schema._schema, self._operation.variable_definitions or (), variables, MAX_COERCION_ERRORS
        )
        if not isinstance(values, VariableValues):
            return None
        shapes = self._shaped(values)
        if shapes is None:
            return None
        try:
            return [
                Call(shape.key, shape.nodes, coerced(shape.arguments(values)["input"]), shape.delivered, shape.refused)
                for shape in shapes
            ]
        except GraphQLError:
            return None

    def _shaped(self, values: VariableValues) -> "list[_Shape] | None":
        switched = tuple(values.coerced.get(name) for name in self._switches)
        if switched not in self._shapes:
            if len(self._shapes) >= 64:
                self._shapes.clear()
            try:
                self._shapes[switched] = list(_Compiler(self._operation, self._fragments, values).calls())
            except (_NotUnderstoodError, GraphQLError):
                self._shapes[switched] = None
        return self._shapes[switched]


@lru_cache(maxsize=256)
def plan(document: str, operation_name: str | None) -> Plan | None:
    """None for a document that is refused, and for an operation that does anything else than invoke."""
    try:
        parsed = prepared(schema._schema, document, introspection=settings.GRAPHQL_INTROSPECTION)
        operation = get_operation_ast(parsed, operation_name)
        if operation is None or operation.operation is not OperationType.MUTATION:
            return None
        # No field of a plan is a page, so that no variable makes the answer larger.
        check_size(schema._schema, parsed, operation, {})
    except RefusedError:
        return None
    return Plan(parsed, operation)


async def run(
    principal: Principal, calls: list[Call], again: Callable[[], Awaitable[Principal]] | None = None
) -> Answer:
    """One call after the other, as mutations are executed. The principal acts for a tenant.

    With `again` the principal is a remembered one, and so may be the versions: what a call does not find confirmed, it
    looks up. `again` looks the principal up; what it raises is raised.
    """
    hinted = again is not None
    data: dict[str, Any] = {}
    for call in calls:
        try:
            try:
                data[call.key] = await _answer(principal, call, hinted=hinted)
            except Moved:
                if again is not None:
                    principal = await again()
                data[call.key] = await _answer(principal, call, hinted=False)
        except GraphQLError as error:
            return Answer(None, formatted([error]))
        again = None  # who is asking is settled once for each request
    return Answer(data, [])


async def _answer(principal: Principal, call: Call, *, hinted: bool) -> Any:
    try:
        return call.delivered(await deliver(principal, call.input, hinted=hinted))
    except Moved:
        raise
    except Exception as error:
        if isinstance(error, MarketplaceError) and not isinstance(error, Unauthenticated):
            return call.refused(error)
        raise located_error(error, call.nodes, [call.key]) from error


def _switches(document: DocumentNode) -> list[str]:
    """The variables that decide which fields there are."""
    names: set[str] = set()

    class Switches(Visitor):
        def enter_directive(self, directive: Any, *_context: Any) -> None:
            names.update(
                argument.value.name.value
                for argument in directive.arguments or ()
                if isinstance(argument.value, VariableNode)
            )

    visit(document, Switches())
    return sorted(names)


def _only_variable(operation: OperationDefinitionNode) -> str | None:
    """Its name, when the operation has one variable, an `InvokeModelInput!`."""
    definitions = operation.variable_definitions or ()
    if len(definitions) == 1 and print_ast(definitions[0].type) == "InvokeModelInput!":
        return definitions[0].variable.name.value
    return None


class _Shape(NamedTuple):
    """A call without its input, which is in its arguments or, when it `takes_variable`, a variable as it is."""

    key: str
    nodes: list[FieldNode]
    takes_variable: bool
    arguments: Callable[[VariableValues], dict[str, Any]]
    delivered: Project
    refused: Callable[[MarketplaceError], Any]


class _Compiler:
    def __init__(
        self, operation: OperationDefinitionNode, fragments: dict[str, FragmentDetails], values: VariableValues
    ) -> None:
        self._operation = operation
        self._fragments = fragments
        self._values = values

    def calls(self) -> Iterator[_Shape]:
        mutation: Any = schema._schema.mutation_type
        fields = collect_fields(schema._schema, self._fragments, self._values, mutation, self._operation)
        if not fields.grouped_field_set:
            raise _NotUnderstoodError
        for key, details in fields.grouped_field_set.items():
            yield self._call(key, details, mutation)

    def _call(self, key: str, details: list[FieldDetails], mutation: GraphQLObjectType) -> _Shape:
        node = details[0].node
        if node.name.value != "invokeModel":
            raise _NotUnderstoodError
        field = mutation.fields["invokeModel"]
        (argument,) = node.arguments or ()
        payload: Any = field.type
        delivered: list[tuple[str, Project]] = []
        refused: list[tuple[str, Project]] = []
        for name, inner in self._below(details, payload.of_type).items():
            match inner[0].node.name.value:
                case "__typename":
                    both: Project = _constant(payload.of_type.name)
                    delivered.append((name, both))
                    refused.append((name, both))
                case "invocation":
                    kind: Any = payload.of_type.fields["invocation"].type
                    delivered.append((name, self._invocation(inner, kind)))
                    refused.append((name, _constant(None)))
                case "errors":
                    interface: Any = payload.of_type.fields["errors"].type.of_type.of_type.of_type
                    delivered.append((name, lambda _done: []))
                    refused.append((name, self._errors(inner, interface)))
                case _:
                    raise _NotUnderstoodError
        return _Shape(
            key,
            [each.node for each in details],
            isinstance(argument.value, VariableNode),
            lambda values: get_argument_values(field, node, values),
            _object(delivered),
            _object(refused),
        )

    def _invocation(self, details: list[FieldDetails], kind: GraphQLObjectType) -> Project:
        fields: list[tuple[str, Project]] = []
        for name, inner in self._below(details, kind).items():
            field = inner[0].node.name.value
            if field == "__typename":
                fields.append((name, _constant(kind.name)))
            elif field == "outputs":
                tensor: Any = kind.fields["outputs"].type
                fields.append((name, self._outputs(inner, tensor.of_type.of_type)))
            elif field in _INVOCATION:
                fields.append((name, _INVOCATION[field]))
            else:
                raise _NotUnderstoodError
        return _object(fields)

    def _outputs(self, details: list[FieldDetails], kind: GraphQLObjectType) -> Project:
        draw = _object(
            [
                (name, _constant(kind.name) if field == "__typename" else _TENSOR[field])
                for name, inner in self._below(details, kind).items()
                for field in [inner[0].node.name.value]
            ]
        )

        def outputs(done: Invocation) -> list[Any] | None:
            return None if done.outputs is None else [draw(tensor) for tensor in done.outputs]

        return outputs

    def _errors(self, details: list[FieldDetails], interface: GraphQLInterfaceType) -> Project:
        draws = {
            kind.name: _object([self._member(name, inner, kind) for name, inner in self._below(details, kind).items()])
            for kind in schema._schema.get_possible_types(interface)
        }

        def errors(error: MarketplaceError) -> list[Any]:
            problem = problem_of(error)
            return [draws[type(problem).__name__](problem)]

        return errors

    def _member(self, name: str, details: list[FieldDetails], kind: GraphQLObjectType) -> tuple[str, Project]:
        """A field of a Problem: an attribute of its own or, for a list or an object, none that is known here."""
        field = details[0].node.name.value
        if field == "__typename":
            return name, _constant(kind.name)
        definition = kind.fields[field]
        leaf = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
        if isinstance(leaf, GraphQLList) or not is_leaf_type(leaf):
            raise _NotUnderstoodError
        attribute: str = definition.extensions["strawberry-definition"].python_name
        serialize = leaf.serialize

        def member(problem: Any) -> Any:
            value = getattr(problem, attribute)
            return None if value is None else serialize(value)

        return name, member

    def _below(self, details: list[FieldDetails], kind: GraphQLObjectType) -> dict[str, list[FieldDetails]]:
        found = collect_subfields(schema._schema, self._fragments, self._values, self._operation, kind, details)
        return dict(found.grouped_field_set)


def _object(fields: list[tuple[str, Project]]) -> Project:
    return lambda source: {name: draw(source) for name, draw in fields}


def _constant(value: object) -> Project:
    return lambda _source: value

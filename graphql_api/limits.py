"""How much a caller may ask for at once: checked before anything is executed, and most of it before validation."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import ASTValidationRule, MaxIntrospectionDepthRule

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_DEPTH = 15
MAX_ALIASES = 50
MAX_TOKENS = 4000
MAX_DOCUMENT_CHARACTERS = 64 * 1024
# A field named over and over in one place: comparing all of them with each other costs the square of their number.
MAX_REPETITIONS = 100
# Fields in the answer, pages counted at their full size.
MAX_FIELDS = 50_000
# The largest tensor (64 MiB) as base64 in JSON, and room for the rest of the request.
MAX_BODY_BYTES = 90 * 1024 * 1024
MAX_ANONYMOUS_BODY_BYTES = 1024 * 1024
MAX_ERRORS = 20

Fragments = Mapping[str, FragmentDefinitionNode]


class RefusedError(Exception):
    """A document that is malformed, invalid or too large; `errors` say why."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors)
        self.errors = errors


def prepared(schema: GraphQLSchema, document: str, *, introspection: bool) -> DocumentNode:
    """The document, parsed, within the limits and valid. Raises RefusedError."""
    if len(document) > MAX_DOCUMENT_CHARACTERS:
        raise RefusedError(
            [
                GraphQLError(
                    _("A document has at most %(most)d characters: send data in variables.")
                    % {"most": MAX_DOCUMENT_CHARACTERS}
                )
            ]
        )
    parsed, errors = _prepared(schema, document, introspection)
    if parsed is None:
        raise RefusedError(list(errors))
    return parsed


@lru_cache(maxsize=256)
def _prepared(
    schema: GraphQLSchema, document: str, introspection: bool
) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    rules: list[type[ASTValidationRule]] = [*specified_rules, MaxIntrospectionDepthRule]
    if not introspection:
        rules.append(NoSchemaIntrospectionCustomRule)
    try:
        parsed = parse(document, max_tokens=MAX_TOKENS)
        _check_form(parsed)
    except GraphQLError as error:
        return None, (error,)
    except RecursionError:
        return None, (GraphQLError(_("The document is nested too deeply.")),)
    errors = validate(schema, parsed, rules, max_errors=MAX_ERRORS, hide_suggestions=not introspection)
    return (None, tuple(errors)) if errors else (parsed, ())


def _check_form(document: DocumentNode) -> None:
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    aliases = 0
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
            aliases += _count_aliases(node.selection_set)
    if aliases > MAX_ALIASES:
        raise GraphQLError(
            _("A document has at most %(most)d aliases, not %(count)d.") % {"most": MAX_ALIASES, "count": aliases}
        )
    depths: dict[str, int] = {}
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            depth = _depth(node.selection_set, fragments, depths)
            if depth > MAX_DEPTH:
                raise GraphQLError(
                    _("A document is at most %(most)d fields deep, not %(depth)d.")
                    % {"most": MAX_DEPTH, "depth": depth},
                    node,
                )


def _count_aliases(selection_set: SelectionSetNode | None) -> int:
    count = 0
    repetitions: dict[str, int] = {}
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FieldNode):
            count += selection.alias is not None
            key = selection.alias.value if selection.alias else selection.name.value
        else:
            key = "..."
        repetitions[key] = repetitions.get(key, 0) + 1
        if repetitions[key] > MAX_REPETITIONS:
            raise GraphQLError(_("%(name)s is repeated too often.") % {"name": key}, selection)
        if isinstance(selection, FieldNode | InlineFragmentNode):
            count += _count_aliases(selection.selection_set)
    return count


def _depth(selection_set: SelectionSetNode | None, fragments: Fragments, depths: dict[str, int]) -> int:
    """Fields below one another. Introspection has a limit of its own; cycles of fragments are left to validation."""
    deepest = 0
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FieldNode):
            if not selection.name.value.startswith("__"):
                deepest = max(deepest, 1 + _depth(selection.selection_set, fragments, depths))
        elif isinstance(selection, InlineFragmentNode):
            deepest = max(deepest, _depth(selection.selection_set, fragments, depths))
        elif isinstance(selection, FragmentSpreadNode) and (fragment := fragments.get(selection.name.value)):
            name = fragment.name.value
            if name not in depths:
                depths[name] = 0
                depths[name] = _depth(fragment.selection_set, fragments, depths)
            deepest = max(deepest, depths[name])
    return deepest


def check_size(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> None:
    """Raises RefusedError for an answer of more than MAX_FIELDS fields, each page counted at the size asked for."""
    root = schema.get_root_type(operation.operation)
    if root is None:
        return
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    defaults = {
        definition.variable.name.value: int(definition.default_value.value)
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, IntValueNode)
    }
    count = _Counter(schema, fragments, {**defaults, **variables}).fields(root, operation.selection_set)
    if count > MAX_FIELDS:
        raise RefusedError(
            [
                GraphQLError(
                    _("This asks for up to %(count)d fields; at most %(most)d. Ask for smaller pages.")
                    % {"count": count, "most": MAX_FIELDS},
                    operation,
                )
            ]
        )


class _Counter:
    def __init__(self, schema: GraphQLSchema, fragments: Fragments, variables: Mapping[str, Any]) -> None:
        self.schema = schema
        self.fragments = fragments
        self.variables = variables
        self.known: dict[tuple[str, str], int] = {}

    def fields(self, parent: Any, selection_set: SelectionSetNode) -> int:
        return sum(self._selections(parent, selection_set))

    def _selections(self, parent: Any, selection_set: SelectionSetNode) -> Iterator[int]:
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                yield 1 + self._below(parent, selection)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self.schema.get_type(condition.name.value) if condition else parent
                yield self.fields(inner, selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode):
                fragment = self.fragments[selection.name.value]
                key = (fragment.name.value, parent.name)
                if key not in self.known:
                    inner = self.schema.get_type(fragment.type_condition.name.value)
                    self.known[key] = self.fields(inner, fragment.selection_set)
                yield self.known[key]

    def _below(self, parent: Any, field: FieldNode) -> int:
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) or field.selection_set is None:
            return 0
        definition = parent.fields.get(field.name.value)
        if definition is None:
            return 0
        kind = get_named_type(definition.type)
        return self._entries(field, kind.name) * self.fields(kind, field.selection_set)

    def _entries(self, field: FieldNode, type_name: str) -> int:
        """How many objects the field may answer with."""
        arguments = {argument.name.value: argument.value for argument in field.arguments or ()}
        if "ids" in arguments:
            return self._length(arguments["ids"])
        if not type_name.endswith("Connection"):
            return 1
        sizes = [self._integer(arguments[name]) for name in ("first", "last") if name in arguments]
        return max([size for size in sizes if size is not None], default=DEFAULT_PAGE)

    def _integer(self, value: ValueNode) -> int | None:
        if isinstance(value, VariableNode):
            given = self.variables.get(value.name.value)
            return given if isinstance(given, int) else None
        return int(value.value) if isinstance(value, IntValueNode) else None

    def _length(self, value: ValueNode) -> int:
        if isinstance(value, VariableNode):
            given = self.variables.get(value.name.value)
            return len(given) if isinstance(given, list) else 1
        return len(value.values) if isinstance(value, ListValueNode) else 1

"""Keyset connections: a cursor is the sort key of its row, and a page is found by comparing rows with it.

`(a, id) <= (x, y)` as one row comparison walks one index from there on, so that page 10,000 costs what page 1 costs;
`a < x OR (a = x AND id < y)`, which strawberry-django's own cursor connection builds, walks it from the start.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import strawberry
import strawberry_django
from django.core.exceptions import ValidationError
from django.db.models import Count, Field, Model, Prefetch, QuerySet, Window
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThanOrEqual, TupleLessThanOrEqual
from django.utils.timezone import is_naive
from django.utils.translation import gettext as _
from graphql.execution.values import VariableValues, get_argument_values
from strawberry import relay
from strawberry.relay.utils import should_resolve_list_connection_edges
from strawberry.types.nodes import SelectedField, get_variable_values
from strawberry_django.optimizer import OptimizerStore, optimize

from marketplace.access import Principal
from marketplace.errors import ValidationProblem

from .context import Info
from .limits import DEFAULT_PAGE, MAX_PAGE

# Sort keys that a QuerySet computes; all others are columns.
ANNOTATIONS = frozenset({"relevance"})


@dataclass(frozen=True, slots=True)
class Order:
    """A total order. `keys` are fields or annotations, all in one direction and the last of them unique."""

    name: str
    keys: tuple[str, ...]
    descending: bool = True

    def cursor(self, row: Model) -> str:
        values = [getattr(row, key) for key in self.keys]
        written = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
        return base64.urlsafe_b64encode(json.dumps([self.name, *written]).encode()).decode()

    def values(self, cursor: str, rows: "QuerySet[Any]", path: str) -> list[Any]:
        """What the cursor says, checked. Raises ValidationProblem for one that is broken or of another list."""
        try:
            name, *written = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
            if name == self.name and len(written) == len(self.keys):
                fields = [_field(rows, key) for key in self.keys]
                return [_value(field, text) for field, text in zip(fields, written, strict=True)]
        except (ValueError, TypeError, OverflowError, RecursionError, ValidationError):
            pass
        raise ValidationProblem(
            _("This is not a cursor of this list in this order. Take one from its `edges` or `pageInfo`."), path=path
        )


def _field(rows: "QuerySet[Any]", key: str) -> "Field[Any, Any]":
    annotation = rows.query.annotations.get(key)
    return annotation.output_field if annotation is not None else rows.model._meta.get_field(key)


def _value(field: "Field[Any, Any]", text: object) -> Any:
    if not isinstance(text, str):
        raise ValueError(text)
    value = field.to_python(text)
    field.run_validators(value)
    if isinstance(value, datetime) and is_naive(value):
        raise ValueError(text)
    return value


@dataclass(frozen=True, slots=True)
class Page:
    """The arguments of a connection. Raises ValidationProblem for a size that is out of range."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None:
            raise ValidationProblem(_("Give `first` or `last`, not both."), path="last")
        for name, size in (("first", self.first), ("last", self.last)):
            if size is not None and not 0 <= size <= MAX_PAGE:
                raise ValidationProblem(
                    _("A page has 0 to %(most)d entries; `%(name)s` is %(size)d. Use cursors for more.")
                    % {"most": MAX_PAGE, "name": name, "size": size},
                    path=name,
                )

    @property
    def size(self) -> int:
        return next((size for size in (self.first, self.last) if size is not None), DEFAULT_PAGE)

    @property
    def from_the_start(self) -> bool:
        return self.after is None and self.before is None

    @property
    def backwards(self) -> bool:
        return self.last is not None

    def cut(self, rows: "QuerySet[Any]", order: Order) -> "QuerySet[Any]":
        """One row more than the page has, backwards from its end for `last`."""
        columns = Tuple(*order.keys)
        for cursor, name, later in ((self.after, "after", True), (self.before, "before", False)):
            if cursor is not None:
                comparison = TupleLessThanOrEqual if later == order.descending else TupleGreaterThanOrEqual
                values = order.values(cursor, rows, name)
                # "Or equal", less the one row that is: PostgreSQL estimates a row comparison by its first column alone,
                # and where many rows are equal in that, "less" looks like none at all and the index is left.
                rows = rows.filter(comparison(columns, tuple(values))).exclude(**{order.keys[-1]: values[-1]})
        sign = "-" if order.descending != self.backwards else ""
        return rows.order_by(*(f"{sign}{key}" for key in order.keys))[: self.size + 1]


@strawberry.type
class Connection(relay.Connection[relay.NodeType]):
    """A page of `all_rows`. The COUNT is a statement of its own, made only when `totalCount` is asked for."""

    all_rows: strawberry.Private["QuerySet[Any]"]
    known_count: strawberry.Private[int | None] = None

    @strawberry_django.field
    def total_count(self) -> int:
        return self.all_rows.count() if self.known_count is None else self.known_count


# What makes a connection of its parts: `Connection` itself, or a subclass with more to it.
Make = Callable[..., Any]


def paginate(make: Make, rows: "QuerySet[Any]", order: Order, page: Page, info: Info) -> Any:
    """One page of the rows. Runs no query for it when only the count is asked for."""
    fetched: Sequence[Any] = ()
    if should_resolve_list_connection_edges(info):
        fetched = list(page.cut(optimize(rows, info, store=_keys(order)), order))
    return _connection(make, fetched, rows, order, page)


def _connection(
    make: Make,
    fetched: Sequence[Any],
    rows: "QuerySet[Any]",
    order: Order,
    page: Page,
    known_count: int | None = None,
) -> Any:
    """`fetched` is what `page.cut` found."""
    kept = list(fetched[: page.size])
    if page.backwards:
        kept.reverse()
    edges = [relay.Edge(node=row, cursor=order.cursor(row)) for row in kept]
    overrun = len(fetched) > page.size
    return make(
        edges=edges,
        page_info=relay.PageInfo(
            # A cursor was taken from a row, so there is something on its other side.
            has_next_page=page.before is not None if page.backwards else overrun,
            has_previous_page=overrun if page.backwards else page.after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
        all_rows=rows,
        known_count=known_count,
    )


def _keys(order: Order, *more: str) -> OptimizerStore:
    """Columns that a cursor or a relation needs, whatever is selected; annotations are there in any case."""
    store: OptimizerStore = OptimizerStore.with_hints(
        only=[key for key in (*order.keys, *more) if key not in ANNOTATIONS]
    )
    return store


def related(
    relation: str,
    *,
    back: str,
    graphql_type: object,
    order: Order,
    visible: "Callable[[Principal], QuerySet[Any]]",
    description: str,
    connection: "Callable[[Any, Info], Make]" = lambda _parent, _info: Connection,
    only: Sequence[str] = (),
) -> Any:
    """The connection along a reverse relation, `back` its foreign key: one query for the pages of all parents.

    `only`: what `connection` reads of the parent.
    """
    attribute = f"_page_of_{relation}"

    def prefetch(info: Info) -> "Prefetch[Any]":
        page = Page(**_arguments(info))
        rows = optimize(visible(info.context.principal), info, store=_keys(order, f"{back}_id"))
        if page.from_the_start and _asks_for(info, "totalCount"):
            rows = rows.annotate(total=Window(Count("pk"), partition_by=f"{back}_id"))
        return Prefetch(relation, queryset=page.cut(rows, order), to_attr=attribute)

    def resolve(
        self: Any,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Any:
        page = Page(first, after, last, before)
        rows = visible(info.context.principal).filter(**{back: self.pk})
        fetched = getattr(self, attribute, None)
        make = connection(self, info)
        if fetched is None:
            return paginate(make, rows, order, page, info)
        count = getattr(fetched[0], "total", None) if fetched else 0
        return _connection(make, fetched, rows, order, page, count if page.from_the_start else None)

    return strawberry_django.field(
        resolver=resolve, graphql_type=graphql_type, description=description, prefetch_related=[prefetch], only=only
    )


def own(
    graphql_type: object,
    order: Order,
    rows: "Callable[[Any, Principal], QuerySet[Any]]",
    description: str,
) -> Any:
    """A connection of which an answer has but one: a plain query, which stops at the end of its page."""

    def resolve(
        self: Any,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Any:
        page = Page(first, after, last, before)
        return paginate(Connection, rows(self, info.context.principal), order, page, info)

    return strawberry_django.field(resolver=resolve, graphql_type=graphql_type, description=description)


def _arguments(info: Info) -> dict[str, Any]:
    raw = info._raw_info
    variables = VariableValues(sources={}, coerced=get_variable_values(raw))
    return get_argument_values(raw.parent_type.fields[raw.field_name], raw.field_nodes[0], variables)


def _asks_for(info: Info, name: str) -> bool:
    waiting = [selection for field in info.selected_fields for selection in field.selections]
    while waiting:
        selection = waiting.pop()
        if isinstance(selection, SelectedField):
            if selection.name == name:
                return True
        else:
            waiting.extend(selection.selections)
    return False

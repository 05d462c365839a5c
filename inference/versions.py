"""The version that answers a call: one plain statement, where building the ORM's takes longer than running it."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db.models import F, Field, Func, Model, OuterRef, Subquery, UUIDField, Value
from psycopg import AsyncConnection

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.hints import Hints
from marketplace.metering.batches import Lane, Question, arrays, ask_one_by_one_if_need_be
from marketplace.metering.connections import fetched
from marketplace.subscriptions.models import ModelSubscription
from marketplace.tenants.models import Tenant

# Generated from the rest for searching, or of any length: nobody needs them to make a call.
_LEFT_OUT = frozenset({"search_vector", "search_text", "card", "report"})


def _fields(model: type[Model]) -> "list[Field[Any, Any]]":
    return [field for field in model._meta.concrete_fields if field.name not in _LEFT_OUT]


_TABLES: tuple[tuple[str, type[Model]], ...] = (("version", ModelVersion), ("model", MLModel), ("publisher", Tenant))
_COLUMNS = {alias: [field.attname for field in _fields(table)] for alias, table in _TABLES}
_SELECTED = ", ".join(f'{alias}."{field.column}"' for alias, table in _TABLES for field in _fields(table))
_AFTER_VERSION = len(_COLUMNS["version"])
_AFTER_MODEL = _AFTER_VERSION + len(_COLUMNS["model"])

_LOADED_ON = """ARRAY(SELECT ARRAY[d.endpoint, d.name] FROM inference_deployment d
                       WHERE d.version_id = {} AND d.status = 'READY')"""
_ENDPOINTS = f"SELECT {_LOADED_ON.format('%s')}"

# Where a version is loaded: the address of a Triton, and the name that it has there.
Place = tuple[str, str]

_lanes: "WeakKeyDictionary[asyncio.AbstractEventLoop, Lane[tuple[Any, ...]]]" = WeakKeyDictionary()

# What a version's number and a live version mean changes rarely, and admission confirms it. It does not confirm what
# hardly matters to a call: the dates of its end, and the shadow that is to be asked as well. Where it is loaded, nobody
# else can tell, so that is asked for again each second.
_hints: "Hints[tuple[UUID | None, str, int | None], ModelVersion]" = Hints(most=1000, seconds=30.0)
_endpoints: Hints[UUID, list[Place]] = Hints(most=10_000, seconds=1.0)

# The conditions of ModelVersionQuerySet.callable_by; tests/inference/test_versions.py holds the two together.
_CALLABLE = f"""
SELECT found.* FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::uuid[], %s::int[])
       WITH ORDINALITY AS asked (slug, name, number, tenant, tenant_group, position)
  LEFT JOIN LATERAL (
SELECT {_SELECTED},
       {_LOADED_ON.format("version.id")}
  FROM tenants_tenant publisher
  JOIN catalog_mlmodel model ON model.publisher_id = publisher.id
  LEFT JOIN LATERAL (
       SELECT pinned_version_id FROM subscriptions_modelsubscription
        WHERE tenant_id = asked.tenant AND model_id = model.id OFFSET 0) AS contract ON true
  JOIN LATERAL (
       SELECT metering_answering_version(asked.tenant, contract.pinned_version_id, model.publisher_id,
                                         model.live_version_id, model.canary_version_id, model.canary_percent) AS id
       OFFSET 0) AS answering ON true
  JOIN catalog_modelversion version ON version.model_id = model.id
 WHERE publisher.slug = asked.slug AND model.name = asked.name
   AND CASE WHEN asked.number IS NULL THEN version.id = answering.id ELSE version.number = asked.number END
   AND version.status IN ('READY', 'LIVE') AND model.taken_down_at IS NULL
   AND (model.publisher_id = asked.tenant
        OR version.released_at IS NOT NULL
           AND (model.visibility = 'PUBLIC'
                OR asked.tenant IS NOT NULL
                   AND EXISTS (SELECT FROM catalog_mlmodelgroupobjectpermission granted
                                 JOIN auth_permission permission ON permission.id = granted.permission_id
                                WHERE granted.content_object_id = model.id AND granted.group_id = asked.tenant_group
                                  AND permission.codename = 'use_mlmodel')))) AS found ON true
 ORDER BY position
"""  # noqa: S608  (names of columns, from our own models)


async def callable_version(principal: Principal, ref: str, number: int | None) -> ModelVersion | None:
    """Version `number` of `publisher/name`, the live one for None, if the principal may call it.

    With `endpoints` (where it is loaded), its model and its publisher. Raises ModelUnavailable.
    """
    version = await _looked_up(principal, ref, number)
    key = (principal.tenant_id, ref, number)
    if version is None:
        _hints.forget(key)
    else:
        _hints.put(key, version)
    return version


def answering(principal: Principal) -> Func:
    """For QuerySets of versions: the id of the one that answers the principal who names none, as callable_version."""
    pinned = ModelSubscription.objects.filter(tenant=principal.tenant_id, model=OuterRef("model"))
    columns = ("publisher", "live_version", "canary_version", "canary_percent")
    return Func(
        Value(principal.tenant_id, output_field=UUIDField()),
        Subquery(pinned.values("pinned_version")),
        *(F(f"model__{column}") for column in columns),
        function="metering_answering_version",
        output_field=UUIDField(),
    )


async def hinted_version(principal: Principal, ref: str, number: int | None) -> ModelVersion | None:
    """What callable_version found for that tenant before: admission has to confirm that it still would.

    Its `endpoints` are of then. None is to be looked up anew: a lookup that was under way already may have missed it.
    """
    return await _hints.find((principal.tenant_id, ref, number), lambda: _looked_up(principal, ref, number))


async def endpoints_of(version_id: UUID) -> list[Place]:
    """Where it is loaded, as of a second ago at most. Raises ModelUnavailable."""
    return await _endpoints.find(version_id, lambda: _loaded_on(version_id)) or []


def forget_endpoints_of(version_id: UUID) -> None:
    _endpoints.forget(version_id)


async def _loaded_on(version_id: UUID) -> list[Place]:
    row = await fetched(_ENDPOINTS, (version_id,))
    return _places(row[0]) if row is not None else []


def _places(pairs: Iterable[Sequence[str]]) -> list[Place]:
    return [(endpoint, name) for endpoint, name in pairs]


async def _looked_up(principal: Principal, ref: str, number: int | None) -> ModelVersion | None:
    slug, _slash, name = ref.partition("/")
    # Many at once share a round trip, instead of waiting for a connection each.
    lane = _lanes.setdefault(asyncio.get_running_loop(), Lane(_ask))
    row = await lane(principal.tenant_id, (slug, name, number, principal.tenant_id, principal.group_id))
    return _version(row) if row[0] is not None else None


async def _ask(questions: Sequence[Question]) -> list[tuple[Any, ...] | BaseException]:
    return await ask_one_by_one_if_need_be(_rows, questions)


async def _rows(db: AsyncConnection[Any], questions: Sequence[Question]) -> list[tuple[Any, ...]]:
    cursor = await db.execute(_CALLABLE, arrays(questions))
    return await cursor.fetchall()


def _version(row: tuple[Any, ...]) -> ModelVersion:
    version = ModelVersion.from_db("default", _COLUMNS["version"], row[:_AFTER_VERSION])
    version.model = MLModel.from_db("default", _COLUMNS["model"], row[_AFTER_VERSION:_AFTER_MODEL])
    version.model.publisher = Tenant.from_db("default", _COLUMNS["publisher"], row[_AFTER_MODEL:-1])
    version.endpoints = _places(row[-1])  # type: ignore[attr-defined]  # as an annotation would be
    return version

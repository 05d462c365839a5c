"""32 tenants call through three doors while a version is a canary, promoted, rolled back, released.

No call fails. The outputs prove which version answered: the door says so, and so does the ledger. Whoever calls after a
change has been acknowledged is answered by what it changed to. `python -m tests.soak.releases` does it at length.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphql_api.nodes import global_id
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.metering.models import Hold
from marketplace.publishing import releases
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.doors.load import REF, Load, calling, doors_of
from tests.doors.site import Site

CALLERS = 32


@contextmanager
def as_it_was(site: Site) -> Iterator[None]:
    """openlab/digits is put back: version 1 live, version 2 not released."""
    fields = ("status", "released_at", "live_before")
    before = site.records(lambda: list(ModelVersion.objects.filter(model__name="digits").values("pk", *fields)))
    try:
        yield
    finally:
        site.records(lambda: _put_back(before))


def _put_back(before: list[dict[str, Any]]) -> None:
    model = MLModel.objects.by_ref(REF).get()
    model.canary_version, model.canary_percent, model.releasing_version = None, 0, None
    model.live_version = model.versions.get(number=1)
    model.save()
    # One is live at a time.
    model.versions.update(status="READY")
    for values in before:
        ModelVersion.objects.filter(pk=values.pop("pk")).update(**values)


def customers() -> list[str]:
    """The keys of as many tenants."""
    plan = factories.plan(
        MLModel.objects.by_ref(REF).get(), included_units=10**6, requests_per_second=10**4, burst=10**4
    )
    tenants = [factories.tenant() for _ in range(CALLERS)]
    for tenant in tenants:
        factories.subscription(tenant, plan)
    return [factories.api_key(tenant) for tenant in tenants]


def recorded(site: Site, load: Load) -> list[list[int]]:
    """The numbers of the versions that the ledger has, for each caller in the order of its calls."""

    def found() -> list[list[int]]:
        tenants = dict(ApiKey.objects.values_list("digest", "tenant"))
        return [
            list(
                Hold.objects.filter(tenant=tenants[keys.digest(caller.key)], state="settled")
                .order_by("id")
                .values_list("version__number", flat=True)
            )
            for caller in load.callers
        ]

    return site.records(found)


async def test_no_call_fails_and_each_is_answered_by_one_version(site: Site) -> None:
    second = site.version(REF, 2)
    version = global_id("ModelVersion", second.pk)
    tenants = await asyncio.to_thread(site.records, customers)
    with as_it_was(site):
        async with doors_of(site.url, site.grpc, CALLERS + 1) as doors:

            def mutation(name: str, **input: Any) -> Awaitable[object]:
                return doors.mutate(site.keys["owner"], name, **input)

            async def once_loaded(asked: Awaitable[object]) -> None:
                """And what the reconciler does then."""
                await asked
                await asyncio.to_thread(site.records, lambda: releases.promote_ready([second.pk]))

            scores = {number: np.array((await doors.rest(site.keys["owner"], number))[1]) for number in (1, 2)}
            async with calling(tenants, doors) as load:
                canary = mutation("setCanary", model=REF, modelVersion=version, percent=50)
                await load.change(once_loaded(canary))
                await load.change(mutation("promoteCanary", model=REF))
                await load.change(mutation("rollbackModel", model=REF))
                await load.change(once_loaded(mutation("releaseModelVersion", modelVersion=version)))
                await load.change(mutation("rollbackModel", model=REF))
    apart = float(np.abs(scores[1] - scores[2]).max())

    assert [caller.failures for caller in load.callers] == [[]] * CALLERS
    shares = []
    for caller, written in zip(load.callers, await asyncio.to_thread(recorded, site, load), strict=True):
        assert [answer.number for answer in caller.answers] == written
        for answer in caller.answers:
            # Calls that run together change the last digits of each other's scores; versions are further apart.
            assert np.abs(answer.scores - scores[answer.number]).max() < apart / 10
        # What was asked for and answered between two changes; who calls across one may get either's.
        between = [
            {answer.number for answer in caller.answers if answer.since == answer.until == change}
            for change in range(load.acknowledged + 1)
        ]
        shares.append(between.pop(1))
        assert between == [{1}, {2}, {1}, {2}, {1}]
    # The canary has some of the tenants, and keeps to them.
    assert sorted(map(tuple, shares))[:: CALLERS - 1] == [(1,), (2,)]
    assert {len(share) for share in shares} == {1}

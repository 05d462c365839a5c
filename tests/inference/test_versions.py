"""The plain statement finds what ModelVersionQuerySet.callable_by allows; admission confirms that and nothing else."""

import asyncio
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from psycopg import AsyncConnection

from inference.models import Deployment
from inference.versions import answering, callable_version
from marketplace.access import ANONYMOUS, Principal
from marketplace.catalog.models import ModelVersion, Visibility
from marketplace.errors import SubscriptionRequired
from marketplace.metering.admission import Hint, Moved, admit
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

STATUSES = ("DRAFT", "VALIDATING", "REJECTED", "READY", "LIVE", "RETIRED")


class Catalogue:
    """A public model, a private one and one that is granted to acme; of each a version in every state."""

    def __init__(self) -> None:
        openlab = factories.tenant("openlab", is_publisher=True)
        acme, globex = factories.tenant("acme"), factories.tenant("globex")
        public = factories.model(openlab, "public")
        private = factories.model(openlab, "private", visibility=Visibility.PRIVATE)
        granted = factories.model(openlab, "granted", visibility=Visibility.PRIVATE)
        factories.grant(granted, acme)
        factories.model(openlab, "empty")
        for model in (public, private, granted):
            for number, status in enumerate(STATUSES, start=1):
                factories.version(model, number, status=status)
            factories.version(model, 7, status="READY", released_at=None)
        self.principals = [ANONYMOUS, *map(factories.principal, (openlab, acme, globex))]
        self.refs = [f"openlab/{name}" for name in ("public", "private", "granted", "empty", "missing")]
        self.refs += ["acme/public", "openlab", "openlab/", "/public", "", "openlab/public/", "OPENLAB/public"]
        self.numbers = [None, *range(9), -1, 2**31 - 1, -(2**31)]
        self.live = ModelVersion.objects.select_related("model__publisher").get(model=public, status="LIVE")


async def by_the_orm(principal: Principal, ref: str, number: int | None) -> ModelVersion | None:
    publisher, _slash, name = ref.partition("/")
    which = {"status": "LIVE"} if number is None else {"number": number}
    rows = ModelVersion.objects.callable_by(principal).filter(
        model__publisher__slug=publisher, model__name=name, **which
    )
    return await rows.select_related("model__publisher").afirst()


async def test_everybody_finds_what_they_may_call_and_nothing_else() -> None:
    catalogue = await sync_to_async(Catalogue)()

    found = 0
    for principal, ref, number in product(catalogue.principals, catalogue.refs, catalogue.numbers):
        expected = await by_the_orm(principal, ref, number)
        assert await callable_version(principal, ref, number) == expected, (principal, ref, number)
        found += expected is not None
    # The public model to all four (READY, LIVE, and by default), the others to whom they are granted, and the
    # publisher's unreleased ones to itself.
    assert found == 3 * (4 + 1 + 2) + 3


async def test_a_version_comes_with_its_model_its_publisher_and_where_it_is_loaded() -> None:
    catalogue = await sync_to_async(Catalogue)()
    live = catalogue.live
    await Deployment.objects.acreate(version=live, endpoint="one:8001", status="READY")
    await Deployment.objects.acreate(version=live, endpoint="two:8001", status="FAILED")

    version = await callable_version(ANONYMOUS, "openlab/public", None)

    assert version is not None
    assert version.endpoints == [("one:8001", live.triton_name)]  # type: ignore[attr-defined]
    for mine, theirs in (
        (version, live),
        (version.model, live.model),
        (version.model.publisher, live.model.publisher),
    ):
        left_out = mine.get_deferred_fields()
        assert left_out <= {"search_vector", "search_text", "card", "report"}
        for field in theirs._meta.concrete_fields:
            if field.attname not in left_out:
                assert getattr(mine, field.attname) == getattr(theirs, field.attname)


async def confirmed(principal: Principal, ref: str, number: int | None, version: ModelVersion) -> bool:
    """Whether admission takes it that this is the version which the reference names to that principal."""
    try:
        await admit(principal, version_id=version.pk, most_seconds=1, hint=Hint(None, ref, number))
    except Moved:
        return False
    except SubscriptionRequired:
        return True  # what is looked at after that
    return True


async def test_admission_confirms_a_version_to_whom_it_would_be_found_for_and_to_nobody_else() -> None:
    catalogue = await sync_to_async(Catalogue)()
    versions = [version async for version in ModelVersion.objects.select_related("model__publisher")]
    asked = [
        (principal, ref, number, version)
        for principal, version in product(catalogue.principals[1:], versions)
        for ref in {version.model.ref, "openlab/public", version.model.ref.upper()}
        for number in {None, version.number, 4}
    ]

    answers = []
    for start in range(0, len(asked), 32):  # no more than are answered within a second, wherever this runs
        answers += await asyncio.gather(*(confirmed(*question) for question in asked[start : start + 32]))

    for (principal, ref, number, version), answer in zip(asked, answers, strict=True):
        assert answer == (await callable_version(principal, ref, number) == version), (principal, ref, number, version)
    assert 0 < sum(answers) < len(answers)


class Shared:
    """openlab/digits: version 1 is live, 2 the canary of about half the tenants, 3 was live before, 4 is retired.

    `answers`: what each principal's calls are answered by.
    """

    def __init__(self) -> None:
        openlab = factories.tenant("openlab", is_publisher=True)
        digits = factories.model(openlab, "digits")
        self.versions = [
            factories.version(digits, number, status=status)
            for number, status in enumerate(("LIVE", "READY", "READY", "RETIRED"), start=1)
        ]
        live, canary, before, retired = self.versions
        tenants = [factories.tenant() for _ in range(10)]
        draws = {each: int(sha256(f"{each.pk}/{canary.pk}".encode()).hexdigest()[:8], 16) % 100 for each in tenants}
        tenants.sort(key=lambda each: draws[each])
        digits.canary_version, digits.canary_percent = canary, draws[tenants[4]] + 1
        digits.save()
        plan = factories.plan(digits)
        self.answers: list[tuple[Principal, ModelVersion]] = [(factories.principal(openlab), live)]
        for tenant, pin in zip(tenants, (None, retired, live, before, None) * 2, strict=True):
            by_share = canary if draws[tenant] < digits.canary_percent else live
            factories.subscription(tenant, plan, pinned_version=pin)
            self.answers.append((factories.principal(tenant), pin if pin in (live, before) else by_share))


async def test_pins_and_canaries_are_looked_up_and_confirmed_alike() -> None:
    shared = await sync_to_async(Shared)()

    for principal, expected in shared.answers:
        assert await callable_version(principal, "openlab/digits", None) == expected
        assert await ModelVersion.objects.filter(pk=answering(principal)).aget() == expected
        # Who names one gets that one.
        assert await callable_version(principal, "openlab/digits", 2) == shared.versions[1]
        for version in shared.versions:
            assert await confirmed(principal, "openlab/digits", None, version) == (version == expected)
            assert await confirmed(principal, "openlab/digits", version.number, version) == (version.number != 4)
    assert len({answering.number for _principal, answering in shared.answers}) == 3


async def test_many_who_look_at_once_share_a_few_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are eight connections: a hundred that each waited for one would be refused where the machine is slow."""
    catalogue = await sync_to_async(Catalogue)()
    await callable_version(ANONYMOUS, "openlab/public", None)
    statements = []
    execute = AsyncConnection.execute

    async def noted(db: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        statements.append(query)
        return await execute(db, query, *arguments, **named)

    monkeypatch.setattr(AsyncConnection, "execute", noted)
    found = await asyncio.gather(*(callable_version(ANONYMOUS, "openlab/public", None) for _ in range(100)))

    assert found == [catalogue.live] * 100
    assert len(statements) <= 3

"""Plans that are given on request: asking, withdrawing, approving, declining; and calls that wait meanwhile."""

from typing import NamedTuple

import pytest
from asgiref.sync import async_to_sync

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel, Visibility
from marketplace.errors import NotFound, PermissionDenied, SubscriptionRequired, ValidationProblem
from marketplace.metering.admission import admit
from marketplace.publishing.approvals import approve_request, decline_request
from marketplace.publishing.plans import hide_plan, update_plan
from marketplace.subscriptions.actions import cancel, subscribe, subscribe_or_ask, withdraw_request
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionRequest, Plan, RequestStatus
from tests import factories

pytestmark = pytest.mark.django_db


class Deal(NamedTuple):
    """openlab gives `plan` on request, and `free` to whoever wants it."""

    publisher: Principal
    tenant: Principal
    model: MLModel
    plan: Plan
    free: Plan

    def asks(self, plan: Plan | None = None, message: str = "") -> ModelSubscription | ModelSubscriptionRequest:
        wanted = (plan or self.plan).pk
        return subscribe_or_ask(self.tenant, model_ref="openlab/digits", plan_id=wanted, message=message)

    def requested(self, message: str = "") -> ModelSubscriptionRequest:
        request = self.asks(message=message)
        assert isinstance(request, ModelSubscriptionRequest)
        return request

    @property
    def subscribers(self) -> int:
        self.model.refresh_from_db()
        return self.model.subscriber_count


@pytest.fixture
def deal() -> Deal:
    openlab, acme = factories.tenant("openlab", is_publisher=True), factories.tenant("acme")
    model = factories.model(openlab, "digits")
    factories.version(model)
    plan = factories.plan(model, requires_approval=True)
    return Deal(factories.principal(openlab), factories.principal(acme), model, plan, factories.plan(model))


def test_who_asks_waits_and_is_no_subscriber_yet(deal: Deal) -> None:
    request = deal.requested("For our scanner.")
    assert (request.status, request.message, request.plan) == (RequestStatus.PENDING, "For our scanner.", deal.plan)
    assert not ModelSubscription.objects.exists()
    assert deal.subscribers == 0


def test_a_plan_on_request_cannot_be_had_without_asking(deal: Deal) -> None:
    with pytest.raises(PermissionDenied, match="on request"):
        subscribe(deal.tenant, model_ref="openlab/digits", plan_id=deal.plan.pk)


def test_any_other_plan_is_had_at_once(deal: Deal) -> None:
    assert isinstance(deal.asks(deal.free), ModelSubscription)
    assert not ModelSubscriptionRequest.objects.exists()


def test_asking_again_changes_what_is_asked_for(deal: Deal) -> None:
    other = factories.plan(deal.model, requires_approval=True)
    first = deal.requested("First.")
    again = deal.asks(other, "Second.")
    assert again == first
    first.refresh_from_db()
    assert (first.plan, first.message) == (other, "Second.")


def test_who_is_on_one_plan_keeps_it_while_it_waits_for_another(deal: Deal) -> None:
    deal.asks(deal.free)
    request = deal.requested()
    assert ModelSubscription.objects.get().plan == deal.free
    approve_request(deal.publisher, request_id=request.pk)
    assert ModelSubscription.objects.get().plan == deal.plan
    assert deal.subscribers == 1


def test_approving_subscribes_and_approving_twice_changes_nothing(deal: Deal) -> None:
    request = deal.requested()
    approve_request(deal.publisher, request_id=request.pk)
    contract = ModelSubscription.objects.get()
    assert (contract.status, contract.plan, contract.tenant_id) == ("ACTIVE", deal.plan, deal.tenant.tenant_id)

    cancel(deal.tenant, subscription_id=contract.pk)
    assert approve_request(deal.publisher, request_id=request.pk).status == RequestStatus.APPROVED
    contract.refresh_from_db()
    assert (contract.status, deal.subscribers) == ("CANCELLED", 0)


def test_who_has_cancelled_asks_anew(deal: Deal) -> None:
    approve_request(deal.publisher, request_id=deal.requested().pk)
    cancel(deal.tenant, subscription_id=ModelSubscription.objects.get().pk)
    assert isinstance(deal.asks(), ModelSubscriptionRequest)


def test_who_was_let_in_takes_the_plans_changed_terms_without_asking(deal: Deal) -> None:
    approve_request(deal.publisher, request_id=deal.requested().pk)
    changed = update_plan(deal.publisher, plan_id=deal.plan.pk, burst=3)
    assert changed.requires_approval
    assert isinstance(deal.asks(changed), ModelSubscription)


def test_declining_gives_a_reason_and_declining_twice_keeps_the_first(deal: Deal) -> None:
    request = deal.requested()
    for reason in (" Not for scanners. ", "Another."):
        request = decline_request(deal.publisher, request_id=request.pk, reason=reason)
    assert (request.status, request.reason) == (RequestStatus.DECLINED, "Not for scanners.")
    assert not ModelSubscription.objects.exists()
    assert deal.requested().pk != request.pk


@pytest.mark.parametrize(
    "reason", ["", " ", "N" * 2001, "a\x00b", "a\ud800b"], ids=["none", "blank", "long", "NUL", "half a pair"]
)
def test_a_reason_is_needed_and_bounded(deal: Deal, reason: str) -> None:
    with pytest.raises(ValidationProblem) as refused:
        decline_request(deal.publisher, request_id=deal.requested().pk, reason=reason)
    assert refused.value.path == "input.reason"


@pytest.mark.parametrize("message", ["N" * 2001, "a\x00b", "a\ud800b"], ids=["long", "NUL", "half a pair"])
def test_a_message_is_bounded(deal: Deal, message: str) -> None:
    with pytest.raises(ValidationProblem) as refused:
        deal.asks(message=message)
    assert refused.value.path == "input.message"


def test_withdrawing_twice_changes_nothing(deal: Deal) -> None:
    request = deal.requested()
    first = withdraw_request(deal.tenant, request_id=request.pk)
    assert withdraw_request(deal.tenant, request_id=request.pk).decided_at == first.decided_at
    assert first.status == RequestStatus.WITHDRAWN


def test_what_is_decided_stays_decided(deal: Deal) -> None:
    def approve(request: ModelSubscriptionRequest) -> object:
        return approve_request(deal.publisher, request_id=request.pk)

    def decline(request: ModelSubscriptionRequest) -> object:
        return decline_request(deal.publisher, request_id=request.pk, reason="No.")

    def withdraw(request: ModelSubscriptionRequest) -> object:
        return withdraw_request(deal.tenant, request_id=request.pk)

    for first, others in (
        (withdraw, (approve, decline)),
        (decline, (approve, withdraw)),
        (approve, (decline, withdraw)),
    ):
        request = deal.requested()
        first(request)
        for other in others:
            with pytest.raises(ValidationProblem, match="decided already"):
                other(request)


def test_terms_that_changed_since_are_not_agreed_to_by_an_approval(deal: Deal) -> None:
    request = deal.requested()
    update_plan(deal.publisher, plan_id=deal.plan.pk, burst=3)
    with pytest.raises(ValidationProblem, match="terms have changed"):
        approve_request(deal.publisher, request_id=request.pk)
    assert not ModelSubscription.objects.exists()


def test_a_plan_that_was_hidden_since_can_still_be_approved(deal: Deal) -> None:
    request = deal.requested()
    hide_plan(deal.publisher, plan_id=deal.plan.pk)
    assert approve_request(deal.publisher, request_id=request.pk)


def test_who_may_no_longer_see_the_model_is_not_let_in(deal: Deal) -> None:
    request = deal.requested()
    MLModel.objects.update(visibility=Visibility.PRIVATE)
    with pytest.raises(ValidationProblem, match="no longer see"):
        approve_request(deal.publisher, request_id=request.pk)


def test_strangers_find_no_request_and_viewers_may_not_touch_it(deal: Deal) -> None:
    request = deal.requested()
    other = factories.principal(factories.tenant(is_publisher=True))
    for principal in (other, deal.tenant):
        with pytest.raises(NotFound):
            approve_request(principal, request_id=request.pk)
        with pytest.raises(NotFound):
            decline_request(principal, request_id=request.pk, reason="No.")
    for principal in (other, deal.publisher):
        with pytest.raises(NotFound):
            withdraw_request(principal, request_id=request.pk)
    billing = factories.principal(deal.model.publisher, TenantRole.BILLING)
    with pytest.raises(PermissionDenied):
        approve_request(billing, request_id=request.pk)


@pytest.mark.django_db(transaction=True)
def test_calls_are_told_that_the_request_waits_and_answered_once_it_is_approved(deal: Deal) -> None:
    @async_to_sync
    async def call() -> object:
        return await admit(deal.tenant, version_id=deal.model.live_version_id, most_seconds=1)

    request = deal.requested()
    with pytest.raises(SubscriptionRequired, match="has not decided yet"):
        call()
    decline_request(deal.publisher, request_id=request.pk, reason="No.")
    with pytest.raises(SubscriptionRequired, match="subscribe to one of its plans"):
        call()
    approve_request(deal.publisher, request_id=deal.requested().pk)
    assert call()

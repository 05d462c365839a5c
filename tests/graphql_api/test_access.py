"""Who gets what: every root field and every field that leads to somebody's things, asked by everybody.

A field of the schema that has no row here, and is not declared plain, fails the suite.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from graphql import GraphQLObjectType

from graphql_api.nodes import global_id, parse_global_id
from graphql_api.schema import schema
from inference.models import ShadowComparison
from marketplace.catalog.models import MLModel, ReleaseEvent
from marketplace.subscriptions.models import ModelSubscription, Plan
from tests import factories
from tests.graphql_api.conftest import Marketplace

# What an answer amounts to for the one who asked.
SEES = "sees it"
NOTHING = "sees what is not there"
DENIED = "PERMISSION_DENIED"
NOT_FOUND = "NOT_FOUND"
INVALID = "VALIDATION"
UNAVAILABLE = "MODEL_UNAVAILABLE"
UNSUBSCRIBED = "SUBSCRIPTION_REQUIRED"
SIGN_IN = "UNAUTHENTICATED"

CALLERS = ("owner", "colleague", "stranger", "publisher", "anonymous")


@dataclass
class Row:
    """A document with one field under test, and what owner, colleague, stranger, publisher and anonymous get."""

    document: str
    outcomes: tuple[str, str, str, str, str]
    variables: Callable[[Marketplace], dict[str, Any]] = field(default=lambda _marketplace: {})


def ids(type_name: str, attribute: str) -> Callable[[Marketplace], dict[str, Any]]:
    return lambda marketplace: {"id": global_id(type_name, getattr(marketplace, attribute).pk)}


def in_parts(marketplace: Marketplace) -> dict[str, Any]:
    """openlab/digits has each part that a version can have, and a history."""
    ready, version = marketplace.ready, marketplace.version
    MLModel.objects.filter(pk=marketplace.model.pk).update(
        releasing_version=ready, releasing_percent=10, canary_version=ready, shadow_version=ready
    )
    ReleaseEvent.objects.create(model=marketplace.model, version=version, kind="RELEASED")
    ShadowComparison.objects.create(shadow=ready, live=version, since=ready.created_at, updated_at=ready.created_at)
    ModelSubscription.objects.filter(pk=marketplace.subscription.pk).update(pinned_version=version)
    return {"id": global_id("ModelSubscription", marketplace.subscription.pk)}


def of_digits(selection: str) -> str:
    return f'{{ model(ref: "openlab/digits") {{ {selection} }} }}'


NOBODY = UUID("01900000-0000-7000-8000-000000000000")
EVERYBODY = (SEES,) * 5
OWN_TENANT = (SEES, SEES, NOTHING, NOTHING, NOTHING)
PUBLISHER = (NOTHING, NOTHING, NOTHING, SEES, NOTHING)
NODE = "query ($id: ID!) { node(id: $id) { id } }"
VIEWER = "{ viewer { tenant { %s { edges { node { id } } } } } }"

NODES: dict[str, Row] = {
    "User": Row(NODE, (SEES, NOTHING, NOTHING, NOTHING, NOTHING), ids("User", "alice")),
    "Tenant": Row(NODE, OWN_TENANT, ids("Tenant", "acme")),
    "Publisher": Row(NODE, EVERYBODY, ids("Publisher", "openlab")),
    "Publisher that does not publish": Row(NODE, (NOTHING,) * 5, ids("Publisher", "acme")),
    "ApiKey": Row(NODE, OWN_TENANT, ids("ApiKey", "key")),
    "Model": Row(NODE, EVERYBODY, ids("Model", "model")),
    "private Model": Row(NODE, (SEES, SEES, NOTHING, SEES, NOTHING), ids("Model", "secret")),
    "ModelVersion": Row(NODE, EVERYBODY, ids("ModelVersion", "version")),
    "draft ModelVersion": Row(NODE, (NOTHING, NOTHING, NOTHING, SEES, NOTHING), ids("ModelVersion", "draft")),
    "private ModelVersion": Row(NODE, (SEES, SEES, NOTHING, SEES, NOTHING), ids("ModelVersion", "secret_version")),
    "Plan": Row(NODE, EVERYBODY, ids("Plan", "plan")),
    "private Plan": Row(NODE, (SEES, SEES, NOTHING, SEES, NOTHING), ids("Plan", "secret_plan")),
    "ModelSubscription": Row(NODE, OWN_TENANT, ids("ModelSubscription", "subscription")),
    "ModelSubscriptionRequest": Row(
        NODE, (SEES, SEES, NOTHING, SEES, NOTHING), ids("ModelSubscriptionRequest", "request")
    ),
    "Invocation": Row(NODE, OWN_TENANT, ids("Invocation", "invocation")),
    "ArtifactUpload": Row(NODE, (NOTHING, NOTHING, NOTHING, SEES, NOTHING), ids("ArtifactUpload", "upload")),
}

QUERIES: dict[str, Row] = {
    "node": NODES["ModelSubscription"],
    "nodes": Row("query ($id: ID!) { nodes(ids: [$id]) { id } }", OWN_TENANT, ids("ModelSubscription", "subscription")),
    "viewer": Row("{ viewer { role } }", (SEES, SEES, SEES, SEES, NOTHING)),
    "models": Row('{ models(search: "secret") { edges { node { id } } } }', (SEES, SEES, NOTHING, SEES, NOTHING)),
    "model": Row('{ model(ref: "openlab/secret") { id } }', (SEES, SEES, NOTHING, SEES, NOTHING)),
    "publisher": Row('{ publisher(slug: "openlab") { id } }', EVERYBODY),
}


def changed(type_name: str, attribute: str) -> Callable[[Marketplace], dict[str, Any]]:
    """The plan that acme is on, its successor, or the contract: acme's on openlab/secret, whose plan has changed."""

    def variables(marketplace: Marketplace) -> dict[str, Any]:
        plan = marketplace.secret_plan
        successor = factories.plan(marketplace.secret, line=plan.line, burst=5)
        Plan.objects.filter(pk=plan.pk).update(
            successor=successor, successor_from=timezone.now() + timedelta(minutes=1)
        )
        contract = factories.subscription(marketplace.acme, plan)
        return {"id": global_id(type_name, {"plan": plan, "successor": successor, "contract": contract}[attribute].pk)}

    return variables


MUTATIONS: dict[str, Row] = {
    "subscribeToModel": Row(
        """mutation ($id: ID!) {
          subscribeToModel(input: {model: "openlab/secret", plan: $id}) { modelSubscription { id } errors { code } }
        }""",
        (SEES, DENIED, NOT_FOUND, INVALID, SIGN_IN),
        ids("Plan", "secret_plan"),
    ),
    "cancelModelSubscription": Row(
        """mutation ($id: ID!) {
          cancelModelSubscription(input: {modelSubscription: $id}) { modelSubscription { id } errors { code } }
        }""",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ModelSubscription", "subscription"),
    ),
    "withdrawModelSubscriptionRequest": Row(
        """mutation ($id: ID!) {
          withdrawModelSubscriptionRequest(input: {modelSubscriptionRequest: $id}) {
            modelSubscriptionRequest { id } errors { code }
          }
        }""",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ModelSubscriptionRequest", "request"),
    ),
    "approveModelSubscriptionRequest": Row(
        """mutation ($id: ID!) {
          approveModelSubscriptionRequest(input: {modelSubscriptionRequest: $id}) {
            modelSubscriptionRequest { id } errors { code }
          }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelSubscriptionRequest", "request"),
    ),
    "declineModelSubscriptionRequest": Row(
        """mutation ($id: ID!) {
          declineModelSubscriptionRequest(input: {modelSubscriptionRequest: $id, reason: "No."}) {
            modelSubscriptionRequest { id } errors { code }
          }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelSubscriptionRequest", "request"),
    ),
    "createApiKey": Row(
        'mutation { createApiKey(input: {name: "ci"}) { apiKey { id } errors { code } } }',
        (SEES, DENIED, SEES, SEES, SIGN_IN),
    ),
    "revokeApiKey": Row(
        "mutation ($id: ID!) { revokeApiKey(input: {apiKey: $id}) { apiKey { id } errors { code } } }",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ApiKey", "key"),
    ),
    "setSpendingCap": Row(
        'mutation { setSpendingCap(input: {amount: "5"}) { tenant { id } errors { code } } }',
        (SEES, DENIED, SEES, SEES, SIGN_IN),
    ),
    "removeSpendingCap": Row(
        'mutation { removeSpendingCap(input: {currency: "USD"}) { tenant { id } errors { code } } }',
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
    ),
    "setApiKeyBudget": Row(
        """mutation ($id: ID!) {
          setApiKeyBudget(input: {apiKey: $id, amount: "5"}) { apiKey { id } errors { code } }
        }""",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ApiKey", "key"),
    ),
    "removeApiKeyBudget": Row(
        """mutation ($id: ID!) {
          removeApiKeyBudget(input: {apiKey: $id, currency: "USD"}) { apiKey { id } errors { code } }
        }""",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ApiKey", "key"),
    ),
    "actForTenant": Row(
        "mutation ($id: ID!) { actForTenant(input: {tenant: $id}) { viewer { role } errors { code } } }",
        (SEES, SEES, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("Tenant", "acme"),
    ),
    "becomePublisher": Row(
        'mutation { becomePublisher(input: {about: "Scanners."}) { publisherApplication { status } errors { code } } }',
        (SEES, DENIED, SEES, INVALID, SIGN_IN),
    ),
    "shareModel": Row(
        """mutation {
          shareModel(input: {model: "openlab/secret", tenant: "globex"}) { model { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
    ),
    "unshareModel": Row(
        """mutation {
          unshareModel(input: {model: "openlab/secret", tenant: "acme"}) { model { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
    ),
    "createModel": Row(
        """mutation {
          createModel(input: {name: "letters", displayName: "Letters", summary: "Reads a letter.", license: "MIT"}) {
            model { id } errors { code }
          }
        }""",
        (DENIED, DENIED, DENIED, SEES, SIGN_IN),
    ),
    "createPlan": Row(
        """mutation {
          createPlan(input: {
            model: "openlab/secret", name: "New", price: {amount: "1"}, includedUnits: "5"
            requestsPerSecond: 1, burst: 1
          }) { plan { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
    ),
    "createUpload": Row(
        "mutation { createUpload(input: {sizeBytes: 10}) { upload { id } errors { code } } }",
        (DENIED, DENIED, DENIED, SEES, SIGN_IN),
    ),
    "completeUpload": Row(
        """mutation ($id: ID!) {
          completeUpload(input: {upload: $id, etags: ["x"]}) { upload { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID, SIGN_IN),
        ids("ArtifactUpload", "upload"),
    ),
    "createModelVersion": Row(
        """mutation ($id: ID!) {
          createModelVersion(input: {model: "openlab/secret", upload: $id}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ArtifactUpload", "upload"),
    ),
    "describeModelVersion": Row(
        """mutation ($id: ID!) {
          describeModelVersion(input: {modelVersion: $id, releaseNotes: "New."}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "secret_version"),
    ),
    "composeModelVersion": Row(
        """mutation ($id: ID!) {
          composeModelVersion(input: {modelVersion: $id}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID, SIGN_IN),
        ids("ModelVersion", "secret_version"),
    ),
    "updatePlan": Row(
        "mutation ($id: ID!) { updatePlan(input: {plan: $id, burst: 2}) { plan { id } errors { code } } }",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("Plan", "plan"),
    ),
    "takeBackPlan": Row(
        "mutation ($id: ID!) { takeBackPlan(input: {plan: $id}) { plan { id } errors { code } } }",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        changed("Plan", "successor"),
    ),
    "hidePlan": Row(
        "mutation ($id: ID!) { hidePlan(input: {plan: $id}) { plan { id } errors { code } } }",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("Plan", "plan"),
    ),
    "releaseModelVersion": Row(
        """mutation ($id: ID!) {
          releaseModelVersion(input: {modelVersion: $id}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "ready"),
    ),
    "configureModelVersion": Row(
        """mutation ($id: ID!) {
          configureModelVersion(input: {modelVersion: $id, instanceCount: 2}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "ready"),
    ),
    "setCanary": Row(
        """mutation ($id: ID!) {
          setCanary(input: {model: "openlab/digits", modelVersion: $id, percent: 5}) { model { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "ready"),
    ),
    "promoteCanary": Row(
        'mutation { promoteCanary(input: {model: "openlab/digits"}) { model { id } errors { code } } }',
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID, SIGN_IN),
    ),
    "setShadow": Row(
        """mutation ($id: ID!) {
          setShadow(input: {model: "openlab/digits", modelVersion: $id, percent: 5}) { model { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "ready"),
    ),
    "deprecateModelVersion": Row(
        """mutation ($id: ID!) {
          deprecateModelVersion(input: {modelVersion: $id}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "version"),
    ),
    "retireModelVersion": Row(
        """mutation ($id: ID!) {
          retireModelVersion(input: {modelVersion: $id}) { modelVersion { id } errors { code } }
        }""",
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, SEES, SIGN_IN),
        ids("ModelVersion", "ready"),
    ),
    "pinModelVersion": Row(
        """mutation ($id: ID!) {
          pinModelVersion(input: {modelSubscription: $id}) { modelSubscription { id } errors { code } }
        }""",
        (SEES, DENIED, NOT_FOUND, NOT_FOUND, SIGN_IN),
        ids("ModelSubscription", "subscription"),
    ),
    "rollbackModel": Row(
        'mutation { rollbackModel(input: {model: "openlab/secret"}) { model { id } errors { code } } }',
        (NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID, SIGN_IN),
    ),
}

# invokeModel decides on connections of its own, which see nothing of a test's open transaction.
COMMITTED_MUTATIONS: dict[str, Row] = {
    "invokeModel": Row(
        """mutation {
          invokeModel(input: {model: "openlab/digits", inputs: [
            {name: "A", datatype: FP32, shape: [1], data: [1]}, {name: "B", datatype: FP32, shape: [1], data: [2]}
          ]}) { invocation { id } errors { code } }
        }""",
        (UNAVAILABLE, DENIED, UNSUBSCRIBED, UNAVAILABLE, SIGN_IN),
    ),
}

COMMITTED_SUBSCRIPTIONS: dict[str, Row] = {
    "invokeModel": Row(
        """subscription {
          invokeModel(input: {model: "openlab/digits", inputs: [
            {name: "A", datatype: FP32, shape: [1], data: [1]}, {name: "B", datatype: FP32, shape: [1], data: [2]}
          ]}) { ... on InvokeModelPayload { invocation { id } errors { code } } }
        }""",
        COMMITTED_MUTATIONS["invokeModel"].outcomes,
    ),
}

# Fields that lead from an object one sees to others, which one may not see.
LINKS: dict[str, Row] = {
    "Viewer.user": Row("{ viewer { user { id } } }", (SEES, SEES, SEES, SEES, NOTHING)),
    "Viewer.tenant": Row("{ viewer { tenant { id } } }", (SEES, SEES, SEES, SEES, NOTHING)),
    "Viewer.tenants": Row("{ viewer { tenants { id } } }", (SEES, SEES, SEES, SEES, NOTHING)),
    "Tenant.modelSubscriptions": Row(VIEWER % "modelSubscriptions", OWN_TENANT),
    "Tenant.apiKeys": Row(VIEWER % "apiKeys", OWN_TENANT),
    "Tenant.invocations": Row(VIEWER % "invocations", OWN_TENANT),
    "Tenant.spendingCaps": Row("{ viewer { tenant { spendingCaps { amount { amount } } } } }", OWN_TENANT),
    "Tenant.publisherApplication": Row(
        "{ viewer { tenant { publisherApplication { status } } } }", (SEES, SEES, NOTHING, NOTHING, NOTHING)
    ),
    "ApiKey.budgets": Row(
        "query ($id: ID!) { node(id: $id) { ... on ApiKey { budgets { amount { amount } } } } }",
        OWN_TENANT,
        ids("ApiKey", "key"),
    ),
    "Publisher.models": Row('{ publisher(slug: "openlab") { models { edges { node { id } } } } }', EVERYBODY),
    "ModelVersion.deployments": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelVersion { deployments { status } } } }",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
        ids("ModelVersion", "version"),
    ),
    "Model.versions": Row('{ model(ref: "openlab/digits") { versions { edges { node { id } } } } }', EVERYBODY),
    "Model.liveVersion": Row('{ model(ref: "openlab/digits") { liveVersion { id } } }', EVERYBODY),
    "Model.releasingVersion": Row(of_digits("releasingVersion { id }"), PUBLISHER, in_parts),
    "Model.releasingPercent": Row(of_digits("releasingPercent"), PUBLISHER, in_parts),
    "Model.canaryVersion": Row(of_digits("canaryVersion { id }"), PUBLISHER, in_parts),
    "Model.canaryPercent": Row(of_digits("canaryPercent"), PUBLISHER, in_parts),
    "Model.shadowVersion": Row(of_digits("shadowVersion { id }"), PUBLISHER, in_parts),
    "Model.shadowPercent": Row(of_digits("shadowPercent"), PUBLISHER, in_parts),
    "Model.shadowComparisons": Row(of_digits("shadowComparisons { asked }"), PUBLISHER, in_parts),
    "ShadowComparison.shadow": Row(of_digits("shadowComparisons { shadow { id } }"), PUBLISHER, in_parts),
    "ShadowComparison.live": Row(of_digits("shadowComparisons { live { id } }"), PUBLISHER, in_parts),
    "Model.releases": Row(of_digits("releases { edges { node { kind } } }"), PUBLISHER, in_parts),
    "Model.versionLiveAt": Row(of_digits('versionLiveAt(at: "2999-01-01T00:00:00Z") { id }'), PUBLISHER, in_parts),
    "ReleaseEvent.version": Row(of_digits("releases { edges { node { version { id } } } }"), PUBLISHER, in_parts),
    "Model.plans": Row('{ model(ref: "openlab/digits") { plans { id } } }', EVERYBODY),
    "ModelVersion.check": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelVersion { check { reason } } } }",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
        ids("ModelVersion", "version"),
    ),
    "Model.publisher": Row('{ model(ref: "openlab/digits") { publisher { id } } }', EVERYBODY),
    "Model.usage": Row(
        """{ model(ref: "openlab/digits") { usage(from: "2026-03-01", to: "2026-03-31") {
          days { calls } tenants { tenantSlug }
        } } }""",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
    ),
    "Publisher.usage": Row(
        """{ publisher(slug: "openlab") { usage(from: "2026-03-01", to: "2026-03-31") { days { calls } } } }""",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
    ),
    "PlanUsage.plan": Row(
        """{ model(ref: "openlab/digits") { usage(from: "2026-03-01", to: "2026-03-31") {
          plans { plan { id name price { amount } successor { id } } }
        } } }""",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
    ),
    "ModelUsage.model": Row(
        """{ publisher(slug: "openlab") { usage(from: "2026-03-01", to: "2026-03-31") {
          models { model { id ref publisher { slug } liveVersion { number } } }
        } } }""",
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
    ),
    "Model.viewerRequest": Row('{ model(ref: "openlab/secret") { viewerRequest { id } } }', OWN_TENANT),
    "Model.subscriptionRequests": Row(
        '{ model(ref: "openlab/secret") { subscriptionRequests { edges { node { id } } } } }',
        (NOTHING, NOTHING, NOTHING, SEES, NOTHING),
    ),
    "Tenant.modelSubscriptionRequests": Row(VIEWER % "modelSubscriptionRequests", OWN_TENANT),
    "ModelSubscriptionRequest.model": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscriptionRequest { model { id } } } }",
        (SEES, SEES, NOTHING, SEES, NOTHING),
        ids("ModelSubscriptionRequest", "request"),
    ),
    "ModelSubscriptionRequest.plan": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscriptionRequest { plan { id } } } }",
        (SEES, SEES, NOTHING, SEES, NOTHING),
        ids("ModelSubscriptionRequest", "request"),
    ),
    "Model.viewerSubscription": Row('{ model(ref: "openlab/digits") { viewerSubscription { id } } }', OWN_TENANT),
    "ModelSubscription.model": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscription { model { id } } } }",
        OWN_TENANT,
        ids("ModelSubscription", "subscription"),
    ),
    "ModelSubscription.pinnedVersion": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscription { pinnedVersion { id } } } }",
        OWN_TENANT,
        in_parts,
    ),
    "ModelSubscription.plan": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscription { plan { id } } } }",
        OWN_TENANT,
        ids("ModelSubscription", "subscription"),
    ),
    "ModelSubscription.nextPlan": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscription { nextPlan { id } } } }",
        OWN_TENANT,
        changed("ModelSubscription", "contract"),
    ),
    "Plan.successor": Row(
        "query ($id: ID!) { node(id: $id) { ... on Plan { successor { id } } } }",
        (SEES, SEES, NOTHING, SEES, NOTHING),
        changed("Plan", "plan"),
    ),
    "ModelSubscription.quota": Row(
        "query ($id: ID!) { node(id: $id) { ... on ModelSubscription { quota { limit } } } }",
        OWN_TENANT,
        ids("ModelSubscription", "subscription"),
    ),
    "Invocation.model": Row(
        "query ($id: ID!) { node(id: $id) { ... on Invocation { model { id } } } }",
        OWN_TENANT,
        ids("Invocation", "invocation"),
    ),
    "Invocation.version": Row(
        "query ($id: ID!) { node(id: $id) { ... on Invocation { version { id } } } }",
        OWN_TENANT,
        ids("Invocation", "invocation"),
    ),
    "ModelConnection.facets": Row(
        '{ models(filter: {publisher: "openlab"}) { facets { publishers { value } } } }', EVERYBODY
    ),
}

# Fields that say something of an object to whoever sees the object.
PLAIN: dict[str, str] = {
    "Viewer": "role permissions",
    "User": "id email displayName",
    "Tenant": "id slug name isPublisher",
    "Publisher": "id slug name",
    "ApiKey": "id name prefix role createdAt lastUsedAt expiresAt revokedAt",
    "Model": "id ref name displayName summary card cardHtml task tags license visibility createdAt updatedAt "
    "subscriberCount takenDownAt takedownReason",
    "ModelVersion": "id number status format sha256 sizeBytes releaseNotes createdAt inputs outputs deprecatedAt "
    "sunsetAt instanceCount maxBatchSize responseCache",
    "ModelVersionDeployment": "endpoint status error failures changedAt loadedAt usedAt memoryBytes",
    "ReleaseEvent": "kind percent reason at by",
    "ShadowComparison": "asked equal close different mismatched failed dropped maxDifference shadowLatencyMs "
    "liveLatencyMs since updatedAt",
    "ModelVersionCheck": "steps reason advice facts",
    "CheckStep": "name status detail seconds",
    "ArtifactUpload": "id sizeBytes receivedBytes sha256 status url expiresAt parts",
    "UploadPart": "number offset sizeBytes url",
    "TensorSpec": "name datatype shape contentType labels example exampleShape",
    "Plan": "id name price unit includedUnits overagePrice requestsPerSecond burst maxConcurrency maxTokensPerCall "
    "successorFrom requiresApproval",
    "Money": "amount currency",
    "ModelSubscription": "id status createdAt nextPlanFrom",
    "ModelSubscriptionRequest": "id status message reason createdAt decidedAt tenantSlug tenantName",
    "Usage": "days plans tenants models countedUntil",
    "DayUsage": "day calls revenue",
    "PlanUsage": "calls unit units revenue",
    "TenantUsage": "tenantSlug tenantName calls revenue",
    "ModelUsage": "calls revenue",
    "PublisherApplication": "status about website reason createdAt decidedAt",
    "Budget": "amount spending",
    "Spending": "periodStart periodEnd limit settled held remaining",
    "Quota": "periodStart periodEnd limit settled held remaining",
    "Invocation": "id status outputs unit units latencyMs createdAt receipt",
    "InvocationChunk": "sequence outputs invocationId",
    "Tensor": "name datatype shape data base64",
    "Facets": "tasks tags licenses publishers",
    "FacetValue": "value count",
    "PageInfo": "hasNextPage hasPreviousPage startCursor endCursor",
}


def amounts_to(answer: dict[str, Any]) -> str:
    """The outcome that an answer is: its first problem's code, or whether there is anything in it."""
    if answer.get("errors"):
        return str(answer["errors"][0]["extensions"]["code"])
    (root,) = answer["data"].values()
    if isinstance(root, dict) and root.get("errors"):
        return str(root["errors"][0]["code"])
    return SEES if has_content(root) else NOTHING


def has_content(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_content(inner) for key, inner in value.items() if key != "errors")
    if isinstance(value, list):
        return any(has_content(inner) for inner in value)
    return value is not None


def every(*tables: dict[str, Row]) -> list[Any]:
    return [
        pytest.param(row, caller, outcome, id=f"{name} by {caller}")
        for table in tables
        for name, row in table.items()
        for caller, outcome in zip(CALLERS, row.outcomes, strict=True)
    ]


@pytest.mark.parametrize(("row", "caller", "outcome"), every(NODES, QUERIES, MUTATIONS, LINKS))
def test_each_gets_what_is_theirs(marketplace: Marketplace, row: Row, caller: str, outcome: str) -> None:
    answer = getattr(marketplace, caller).ask(row.document, **row.variables(marketplace))

    assert amounts_to(answer) == outcome, answer


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("row", "caller", "outcome"), every(COMMITTED_MUTATIONS))
async def test_each_invokes_what_they_may(transactional_db: None, row: Row, caller: str, outcome: str) -> None:
    marketplace = await sync_to_async(Marketplace)()

    answer = await getattr(marketplace, caller).aask(row.document, **row.variables(marketplace))

    assert amounts_to(answer) == outcome, answer


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("row", "caller", "outcome"), every(COMMITTED_SUBSCRIPTIONS))
async def test_each_streams_what_they_may(transactional_db: None, row: Row, caller: str, outcome: str) -> None:
    marketplace = await sync_to_async(Marketplace)()

    (answer,) = await getattr(marketplace, caller).astream(row.document, **row.variables(marketplace))

    assert amounts_to(answer) == outcome, answer


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=name) for table in (QUERIES, MUTATIONS, LINKS) for name, row in table.items()]
)
def test_a_revoked_key_gets_nothing(marketplace: Marketplace, row: Row) -> None:
    response = marketplace.revoked.post({"query": row.document, "variables": row.variables(marketplace)})

    assert response.status_code == 401
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["UNAUTHENTICATED"]
    assert "data" not in response.json()


@pytest.mark.parametrize(
    ("row", "caller"),
    [
        pytest.param(row, caller, id=f"{name} by {caller}")
        for name, row in (NODES | MUTATIONS).items()
        for caller, outcome in zip(CALLERS, row.outcomes, strict=True)
        if "$id" in row.document and outcome in (NOTHING, NOT_FOUND, SIGN_IN)
    ],
)
def test_a_foreign_object_answers_exactly_as_a_missing_one(marketplace: Marketplace, row: Row, caller: str) -> None:
    foreign = row.variables(marketplace)
    parsed = parse_global_id(foreign["id"])
    assert parsed is not None
    missing = {"id": global_id(parsed[0], NOBODY)}

    ask = getattr(marketplace, caller).ask
    assert ask(row.document, **foreign) == ask(row.document, **missing)


def test_a_foreign_model_answers_exactly_as_a_missing_one(marketplace: Marketplace) -> None:
    document = "query ($ref: String!) { model(ref: $ref) { id } }"

    foreign = marketplace.stranger.ask(document, ref="openlab/secret")

    assert foreign == marketplace.stranger.ask(document, ref="openlab/nothing") == {"data": {"model": None}}


def test_every_root_field_has_a_row() -> None:
    graphql_schema = schema._schema
    assert graphql_schema.query_type is not None
    assert graphql_schema.mutation_type is not None
    assert graphql_schema.subscription_type is not None

    assert set(graphql_schema.query_type.fields) == set(QUERIES)
    assert set(graphql_schema.mutation_type.fields) == set(MUTATIONS) | set(COMMITTED_MUTATIONS)
    assert set(graphql_schema.subscription_type.fields) == set(COMMITTED_SUBSCRIPTIONS)


def test_every_node_type_has_a_row() -> None:
    node = schema._schema.get_type("Node")
    assert node is not None

    kinds = {kind.name for kind in schema._schema.get_possible_types(node)}  # type: ignore[arg-type]

    assert kinds <= set(NODES)


def test_every_field_of_every_type_has_a_row_or_is_declared_plain() -> None:
    structural = ("Connection", "Edge", "Payload")
    problem = schema._schema.get_type("Problem")
    declared = set(LINKS) | {f"{kind}.{name}" for kind, names in PLAIN.items() for name in names.split()}

    found = {
        f"{kind.name}.{name}"
        for kind in schema._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        and not kind.name.startswith("__")
        and kind.name not in ("Query", "Mutation", "Subscription")
        and problem not in kind.interfaces
        for name in kind.fields
        if not (kind.name.endswith(structural) and name in ("edges", "node", "cursor", "pageInfo", "totalCount"))
        and not kind.name.endswith("Payload")
    }

    assert found == declared

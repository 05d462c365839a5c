"""The ONNX project's own backend tests, each published through GraphQL, checked, released on Triton, and invoked.

A sample by default; ONNX_SUITE=all takes every case. What is not served is refused for one of a closed list of reasons.
"""

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import SimpleUploadedFile

from inference import checking
from inference.deployment import reconciler
from inference.models import Deployment, DeploymentStatus
from marketplace.access import TenantRole
from marketplace.catalog.models import MLModel, ModelVersion
from tests import factories
from tests.graphql_api.caller import Caller
from tests.inference.onnx_suite import ONNXRUNTIME_DIFFERS, Case, cases

pytestmark = pytest.mark.django_db(transaction=True)

TAKES_ALL = os.environ.get("ONNX_SUITE") == "all"
SAMPLE, SAMPLE_OF_THE_NEWEST = 218, 6
HOW_MANY = 1884 if TAKES_ALL else SAMPLE + SAMPLE_OF_THE_NEWEST
BATCH = 28
CALLS_AT_ONCE = 4
MOST_ROUNDS = 4
MOST_CALLS = 3

# Why a case is not served -> what the report says.
REFUSALS = {
    "newer opset": r"^The model uses \w+ as it is since version \d+ of ai\.onnx, and 21 is the newest that runs",
    "preview or training domain": r"^The model uses '\w+' of 'ai\.onnx\.preview[.\w]*', which is not a domain of ONNX",
    "not a tensor": r"is not a tensor of BOOL, ",
    "not in onnxruntime": r"^onnxruntime does not load the model: .*NOT_IMPLEMENTED",
    "no input": r"^The model takes no input",
}
# As they were counted with onnx 1.23.2 and onnxruntime 1.31.1.
ALL = {
    "newer opset": 944,
    "not a tensor": 19,
    "not in onnxruntime": 15,
    "preview or training domain": 18,
    "equal": 872,
    "onnxruntime differs": 16,
}
SAMPLED = {
    "newer opset": 6,
    "not a tensor": 3,
    "not in onnxruntime": 1,
    "preview or training domain": 2,
    "equal": 204,
    "onnxruntime differs": 8,
}

PUBLISH = """
mutation ($model: CreateModelInput!, $version: CreateModelVersionInput!) {
  createModel(input: $model) { errors { message } }
  createModelVersion(input: $version) { modelVersion { id status } errors { message } }
}
"""
RELEASE = """
mutation ($version: ID!) { releaseModelVersion(input: {modelVersion: $version}) { errors { message } } }
"""
INVOKE = """
mutation ($input: InvokeModelInput!) {
  invokeModel(input: $input) { invocation { outputs { name datatype shape base64 } } errors { code message } }
}
"""


class Suite:
    """openlab publishes the cases, and acme calls them."""

    def __init__(self) -> None:
        self.openlab = factories.tenant("openlab", is_publisher=True)
        self.acme = factories.tenant("acme")
        self.publisher = Caller(key=factories.api_key(self.openlab, TenantRole.OWNER))
        self.consumer = Caller(key=factories.api_key(self.acme))
        self.versions: dict[str, str] = {}
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []

    async def serve(self, batch: Sequence[Case]) -> None:
        await sync_to_async(self.publish)(batch)
        await sync_to_async(checking.check_waiting)()
        served = await sync_to_async(self.release)(batch)
        await self.load()
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        await asyncio.gather(*(self.call(case, slots) for case in served))
        await sync_to_async(self.retire)()
        await reconciler.reconcile(wait=True)

    async def load(self) -> None:
        """Until all that was released is live: on a busy machine a load can take longer than it is waited for."""
        for _ in range(MOST_ROUNDS):
            await reconciler.reconcile(wait=True)
            if not await MLModel.objects.exclude(releasing_version=None).aexists():
                return
            await Deployment.objects.filter(status=DeploymentStatus.FAILED).adelete()

    def publish(self, batch: Sequence[Case]) -> None:
        for case in batch:
            name = case.name.lower()
            about = {"displayName": name, "summary": name, "license": "Apache-2.0", "visibility": "PUBLIC"}
            variables = {
                "model": {"name": name, **about},
                "version": {"model": f"openlab/{name}", "artifact": None},
            }
            fields = {
                "operations": json.dumps({"query": PUBLISH, "variables": variables}),
                "map": json.dumps({"0": ["variables.version.artifact"]}),
                "0": SimpleUploadedFile("model.onnx", case.model.SerializeToString()),
            }
            headers = {"Authorization": f"Bearer {self.publisher.key}", "X-Requested-With": "pytest"}
            answer = self.publisher.client.post("/graphql", data=fields, headers=headers).json()
            made = answer["data"]["createModelVersion"]
            assert (answer["data"]["createModel"], made["errors"]) == ({"errors": []}, []), (case.name, answer)
            assert made["modelVersion"]["status"] == "VALIDATING"
            self.versions[case.name] = made["modelVersion"]["id"]
            model = MLModel.objects.get(name=name)
            factories.subscription(self.acme, factories.plan(model))

    def release(self, batch: Sequence[Case]) -> list[Case]:
        """Those that are READY; the others are counted by why they are not."""
        served = []
        for case in batch:
            version = ModelVersion.objects.get(model__name=case.name.lower())
            if version.status == "READY":
                answer = self.publisher.data(RELEASE, version=self.versions[case.name])
                assert answer == {"releaseModelVersion": {"errors": []}}
                served.append(case)
                continue
            reason = version.report.get("reason", version.status)
            kind = next((kind for kind, pattern in REFUSALS.items() if re.search(pattern, reason)), None)
            self.count(case, kind or reason, is_expected=kind is not None)
        return served

    async def call(self, case: Case, slots: asyncio.Semaphore) -> None:
        async with slots:
            wanted = {"model": f"openlab/{case.name.lower()}", "inputs": case.variables()}
            delivered = await self.delivered(wanted)
        problem = delivered["errors"] or case.differences(delivered["invocation"]["outputs"])
        if problem and ONNXRUNTIME_DIFFERS.match(case.name):
            self.count(case, "onnxruntime differs", is_expected=True)
        else:
            self.count(case, "equal" if not problem else str(problem), is_expected=not problem)

    async def delivered(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """As every client does: whoever is told to try again tries again."""
        for _ in range(MOST_CALLS):
            answer = await self.consumer.aask(INVOKE, input=wanted)
            told: dict[str, Any] = (answer.get("data") or {}).get("invokeModel") or {"errors": answer["errors"]}
            if not any(error.get("code") == "MODEL_UNAVAILABLE" for error in told["errors"]):
                break
        return told

    def retire(self) -> None:
        """So that the next batch finds room."""
        MLModel.objects.update(live_version=None, releasing_version=None)
        ModelVersion.objects.update(status="RETIRED")

    def count(self, case: Case, outcome: str, *, is_expected: bool) -> None:
        self.outcomes[outcome] += 1
        if not is_expected:
            self.unexpected.append(f"{case.name}: {outcome}")


def chosen() -> list[Case]:
    chance = random.Random(21)
    picked = list(cases())
    if not TAKES_ALL:
        old = [case for case in picked if is_of_our_age(case)]
        new = [case for case in picked if not is_of_our_age(case)]
        picked = chance.sample(old, SAMPLE) + chance.sample(new, SAMPLE_OF_THE_NEWEST)
    chance.shuffle(picked)
    return picked


def is_of_our_age(case: Case) -> bool:
    return case.model.ir_version <= 10 and all(opset.version <= 21 for opset in case.model.opset_import)


@pytest.fixture(scope="module")
def wanted() -> list[Case]:
    return chosen()


@pytest.fixture(scope="module")
def outcomes() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("start", range(0, HOW_MANY, BATCH))
async def test_models_answer_as_they_should(
    settings: Any, tmp_path: Path, wanted: list[Case], outcomes: Counter[str], start: int
) -> None:
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"
    suite = await sync_to_async(Suite)()

    await suite.serve(wanted[start : start + BATCH])

    outcomes.update(suite.outcomes)
    assert suite.unexpected == []
    assert suite.outcomes.total() == len(wanted[start : start + BATCH])


def test_two_hundred_of_them_and_more_are_served(wanted: list[Case], outcomes: Counter[str]) -> None:
    if outcomes.total() < len(wanted):
        pytest.skip("only some of the batches ran")
    assert outcomes["equal"] >= 200
    assert dict(outcomes) == (ALL if TAKES_ALL else SAMPLED)

"""A compiled plan answers as the general executor does: the same data, the same errors, in the same order."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import inference.invocation
from graphql_api import compiled
from graphql_api.context import Context
from graphql_api.execution import Answer, run
from inference.tensors import Datatype, Tensor
from marketplace import errors
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import ModelVersion

pytestmark = pytest.mark.django_db

ACME = Principal(tenant_id=UUID(int=1), group_id=1, api_key_id=UUID(int=2), role=TenantRole.DEVELOPER)
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)

SUM = Tensor("SUM", Datatype.FP32, (2,), b"\0\0\x80\x3f\0\0\xc0\x7f")
WORDS = Tensor("WORDS", Datatype.BYTES, (1, 1), b"\x02\0\0\0ab")
DELIVERED = [(), (SUM,), (SUM, WORDS), None]
FAILURES: list[Exception] = [
    errors.ValidationProblem("No.", path="input.inputs.0.shape"),
    errors.NotFound("No.", path="input.model"),
    errors.PermissionDenied("No."),
    errors.Unauthenticated("Who?"),
    errors.SubscriptionRequired("No.", path="input.model"),
    errors.QuotaExceeded("No.", limit=Decimal("5.50"), remaining=Decimal(0), resets_at=NOON),
    errors.RateLimited("No.", retry_after_ms=20),
    errors.IdempotencyConflict("No.", path="input.idempotencyKey"),
    errors.ModelUnavailable("No.", retry_after_ms=None),
    errors.ModelUnavailable("No.", retry_after_ms=1000),
    errors.InferenceFailed("No."),
]


class House:
    """Stands where inference.invocation.invoke does, and answers each call of a model with what is laid out for it."""

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes
        self.calls: list[dict[str, Any]] = []

    async def invoke(self, principal: Principal, **arguments: Any) -> inference.invocation.Invocation:
        number = len(self.calls)
        # By which way it came is what sets the two apart.
        del arguments["hinted"]
        self.calls.append({"principal": principal, **arguments})
        await asyncio.sleep(0)
        outcome = self.outcomes[number % len(self.outcomes)]
        if isinstance(outcome, Exception):
            raise outcome
        return inference.invocation.Invocation(
            UUID(int=number),
            ModelVersion(number=1),
            outcome,
            "SECOND",
            Decimal("1.50"),
            2.5,
            NOON + timedelta(microseconds=number),
        )


Document = tuple[str, dict[str, Any], str | None]


def both(document: Document, outcomes: list[Any], patch: pytest.MonkeyPatch) -> tuple[Any, Any, list[Any]]:
    """What the plan answers (None without one) and what the general executor does, each with the calls that it made."""
    text, variables, name = document

    async def by_plan(house: House) -> Answer | None:
        plan = compiled.plan(text, name)
        calls = plan.calls(variables) if plan is not None else None
        return await compiled.run(ACME, calls) if calls is not None else None

    async def in_general(house: House) -> Answer | None:
        return await run(Context(SimpleNamespace(), ACME), text, variables, name)  # type: ignore[arg-type]

    answers, calls = [], []
    for way in (by_plan, in_general):
        house = House(outcomes)
        patch.setattr(inference.invocation, "invoke", house.invoke)
        answers.append(asyncio.run(way(house)))
        calls.append(house.calls)
    return answers[0], answers[1], calls


def same(document: Document, outcomes: list[Any], patch: pytest.MonkeyPatch) -> Answer | None:
    quick, general, calls = both(document, outcomes, patch)
    if quick is None:
        assert calls[0] == []
        return None
    assert calls[0] == calls[1]
    assert (quick.executed, quick.errors) == (general.executed, general.errors)
    assert _ordered(quick.data) == _ordered(general.data)
    return general


def _ordered(value: Any) -> Any:
    """Objects as lists of pairs: the order of fields is part of an answer."""
    if isinstance(value, dict):
        return [(key, _ordered(inner)) for key, inner in value.items()]
    return [_ordered(inner) for inner in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- documents

SWITCHES = ["yes", "no"]
aliases = st.sampled_from(["", "", "", "a: ", "b: ", "id: "])
directives = st.sampled_from(
    ["", "", "", " @skip(if: $yes)", " @include(if: $no)", " @skip(if: false)", " @include(if: false) @skip(if: $no)"]
)

INVOCATION_LEAVES = ["id", "status", "unit", "units", "latencyMs", "createdAt", "__typename"]
TENSOR_LEAVES = ["name", "datatype", "shape", "data", "base64", "__typename"]
PROBLEM_LEAVES = ["code", "message", "path", "__typename"]
OF_KIND = {"QuotaExceeded": ["limit", "remaining", "resetsAt"], "RateLimited": ["retryAfterMs"], "NotFound": ["path"]}


@st.composite
def selection(draw: st.DrawFn, leaves: list[str], kind: str, objects: dict[str, Any], depth: int = 2) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        choice = draw(st.integers(0, 9))
        if choice == 0 and depth:
            inner = draw(selection(leaves, kind, objects, depth - 1))
            on = draw(st.sampled_from(["", f" on {kind}"]))
            parts.append(f"...{on}{draw(directives)} {{ {inner} }}")
        elif choice == 1:
            parts.append(f"...{kind}Parts{draw(directives)}")
        elif choice <= 5 and objects:
            name = draw(st.sampled_from(sorted(objects)))
            alias = draw(st.sampled_from(["", "", f"x{name}: "]))
            parts.append(f"{alias}{name}{draw(directives)} {{ {draw(objects[name])} }}")
        else:
            leaf = draw(st.sampled_from(leaves))
            alias = draw(st.sampled_from(["", "", f"y{leaf.strip('_')}: "]))
            parts.append(f"{alias}{leaf}{draw(directives)}")
    return " ".join(parts)


tensors = selection(TENSOR_LEAVES, "Tensor", {})
invocations = selection(INVOCATION_LEAVES, "Invocation", {"outputs": tensors})
problems = st.builds(
    lambda shared, special: f"{shared} {special}",
    selection(PROBLEM_LEAVES, "Problem", {}),
    st.sampled_from(
        [
            "",
            *(
                f"... on {kind} {{ {field} more{field}: {field} }}"
                for kind, names in OF_KIND.items()
                for field in names
            ),
        ]
    ),
)
payloads = selection(["__typename"], "InvokeModelPayload", {"invocation": invocations, "errors": problems})

FRAGMENTS = {
    "TensorParts": "fragment TensorParts on Tensor { name ydata: data }",
    "InvocationParts": "fragment InvocationParts on Invocation { id outputs { shape ...TensorParts } }",
    "ProblemParts": "fragment ProblemParts on Problem { message ... on ModelUnavailable { retryAfterMs } }",
    "InvokeModelPayloadParts": "fragment InvokeModelPayloadParts on InvokeModelPayload {"
    " errors { code } invocation { units ...InvocationParts } }",
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def optional(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | value


inputs = st.fixed_dictionaries(
    {"model": st.text(max_size=20), "inputs": st.lists(st.deferred(lambda: tensor_inputs), max_size=3)},
    optional={
        "version": optional(st.integers(-(2**31), 2**31 - 1)),
        "outputs": optional(st.lists(st.text(max_size=5), max_size=2)),
        "parameters": json_values,
        "idempotencyKey": optional(st.text(max_size=5)),
    },
)
tensor_inputs = st.fixed_dictionaries(
    {
        "name": st.text(max_size=5),
        "datatype": st.sampled_from(["FP32", "BYTES", "INT64"]),
        "shape": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    },
    optional={"data": json_values, "base64": optional(st.text(max_size=5))},
)
# What is no InvokeModelInput: too large, of another type, with a field too many or too few.
wrong = st.one_of(
    json_values,
    st.builds(lambda value, change: {**value, **change}, inputs, st.dictionaries(st.sampled_from(
        ["model", "version", "inputs", "outputs", "nothing"]), json_values, max_size=2)),
)  # fmt: skip

LITERAL = '{model: "a/b", version: 3, inputs: [{name: "A", datatype: FP32, shape: [1, $size], data: [1.5, null, "x"]}]}'


@st.composite
def documents(draw: st.DrawFn) -> Document:
    fields = []
    for number in range(draw(st.integers(1, 3))):
        alias = draw(st.sampled_from([f"call{number}: ", f"call{number}: ", "call: " if number == 0 else "last: "]))
        argument = draw(st.sampled_from(["$input", "$input", "$other", LITERAL]))
        field = f"{alias}invokeModel(input: {argument}){draw(directives)} {{ {draw(payloads)} }}"
        fields.append(draw(st.sampled_from([field, field, f"... on Mutation{draw(directives)} {{ {field} }}"])))
    if draw(st.integers(0, 9)) == 0:
        fields.append("__typename")
    body = " ".join(fields)
    definitions = {
        "input": "$input: InvokeModelInput!",
        "other": '$other: InvokeModelInput! = {model: "other/one", inputs: []}',
        "yes": "$yes: Boolean = true",
        "no": "$no: Boolean!",
        "size": "$size: BigInt! = 7",
    }
    fragments = ""
    waiting = body
    while missing := [n for n in FRAGMENTS if f"...{n}" in waiting and f"fragment {n} " not in fragments]:
        fragments += "\n".join(FRAGMENTS[name] for name in missing) + "\n"
        waiting = fragments
    used = [text for name, text in definitions.items() if f"${name}" in body]
    head = f"mutation Call({', '.join(used)})" if used else "mutation Call"
    values = {
        "input": draw(st.one_of(inputs, inputs, inputs, wrong)),
        "other": draw(inputs),
        "yes": draw(st.booleans()),
        "no": draw(st.sampled_from([True, False, False, None, "x"])),
        "size": draw(st.integers(0, 2**63)),
    }
    left_out = draw(st.sets(st.sampled_from(sorted(values)), max_size=1))
    variables = {name: value for name, value in values.items() if name not in left_out}
    return f"{head} {{ {body} }}\n{fragments}", variables, draw(st.sampled_from([None, "Call"]))


outcomes = st.lists(st.sampled_from([*DELIVERED, *DELIVERED, *FAILURES]), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def patch() -> Any:
    with pytest.MonkeyPatch.context() as context:
        yield context


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=documents(), outcomes=outcomes)
def test_a_plan_answers_as_the_general_executor_does(
    document: Document, outcomes: list[Any], patch: pytest.MonkeyPatch
) -> None:
    same(document, outcomes, patch)


INPUT = {"model": "openlab/add", "inputs": []}
WHOLE = """
mutation ($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { id status unit units latencyMs createdAt outputs { name datatype shape data base64 } }
    errors { __typename code message path ... on QuotaExceeded { limit remaining resetsAt }
      ... on RateLimited { retryAfterMs } ... on ModelUnavailable { retryIn: retryAfterMs } }
  }
}"""


@pytest.mark.parametrize("outcome", [*DELIVERED, *FAILURES], ids=repr)
def test_every_outcome_of_the_usual_document_has_a_plan(outcome: Any, patch: pytest.MonkeyPatch) -> None:
    assert same((WHOLE, {"input": INPUT}, None), [outcome], patch) is not None


def test_what_nobody_expected_is_masked_and_ends_the_operation(patch: pytest.MonkeyPatch) -> None:
    document = WHOLE.replace("invokeModel(", "first: invokeModel(")

    quick, general, calls = both((document, {"input": INPUT}, None), [RuntimeError("secret")], patch)

    for answer in (quick, general):
        (error,) = answer.errors
        assert (answer.data, answer.executed) == (None, True)
        assert "secret" not in str(error)
        assert error["extensions"].pop("reference") in error.pop("message")
    assert quick.errors == general.errors
    assert len(calls[0]) == len(calls[1]) == 1


@pytest.mark.parametrize(
    "document",
    [
        "{ __typename }",
        "mutation { __typename }",
        "mutation {",
        "mutation { nothing }",
        'mutation { createApiKey(input: {name: "made"}) { secret } }',
        "mutation ($input: InvokeModelInput!) { invokeModel(input: $input) { errors { code } }"
        ' createApiKey(input: {name: "made"}) { secret } }',
        "mutation ($input: InvokeModelInput!) { invokeModel(input: $input) { invocation { model { ref } } } }",
        "mutation ($input: InvokeModelInput!) { invokeModel(input: $input) { invocation { version { number } } } }",
        "mutation a($input: InvokeModelInput!) { invokeModel(input: $input) { errors { code } } } "
        "mutation b { __typename }",
        "mutation ($input: InvokeModelInput!) { invokeModel(input: $input) @skip(if: true) { errors { code } } }",
    ],
)
def test_what_does_more_or_less_than_invoke_is_for_the_general_executor(document: str) -> None:
    plan = compiled.plan(document, None)

    assert plan is None or plan.calls({"input": INPUT}) is None

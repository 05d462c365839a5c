"""Failures in OpenAI's form, with its statuses, for whoever reads them by hand and for the `openai` package."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import httpx
import openai
import pytest

from inference.dataplane.openai.errors import failure
from marketplace.tenants.models import Tenant
from tests import factories
from tests.doors.openai.conftest import Client
from tests.doors.openai.requests import error_of, post
from tests.doors.site import Server, Site

MODEL = "openlab/minilm"
BODY = {"model": MODEL, "input": "a"}


@pytest.fixture(scope="module")
def unloaded(site: Site) -> str:
    """An embedder that subscribers may call and that is on no server; it does not say how many tokens there were."""

    def put_up() -> str:
        openlab, acme = (Tenant.objects.get(slug=slug) for slug in ("openlab", "acme"))
        model = factories.model(openlab, "unloaded-embedder", task="TEXT_EMBEDDING")
        version = factories.version(model)
        version.tensors.all().delete()
        factories.tensor(version, "INPUT", "text", datatype="BYTES", shape=[-1])
        factories.tensor(version, "OUTPUT", "vector", datatype="FP32", shape=[-1, 8])
        factories.subscription(acme, factories.plan(model))
        return model.ref

    return site.records(put_up)


@pytest.mark.parametrize("who", [None, "revoked", "expired", "mk_nonsense", "sk-proj-of-somebody-else"])
@pytest.mark.parametrize("path", ["embeddings", "chat/completions", "completions"])
def test_without_a_valid_key(site: Site, who: str | None, path: str) -> None:
    assert error_of(post(site, path, b"{", who)) == (401, None, "invalid_api_key")


def test_the_package_says_authentication_error(client: Client) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client("revoked").embeddings.create(model=MODEL, input="a")

    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
    assert refused.value.response.headers["www-authenticate"] == "Bearer"


def test_another_scheme_than_bearer(site: Site) -> None:
    answer = httpx.get(f"{site.url}/v1/models", headers={"Authorization": "Basic dTpw"})

    assert error_of(answer) == (401, None, "invalid_api_key")


@pytest.mark.parametrize("model", ["openlab/nothing", "nothing", "", "openlab/add", "openlab/minilm@0", "a\0b/c@1"])
def test_a_model_that_does_not_answer_here(client: Client, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client().embeddings.create(model=model, input="a")

    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_half_of_a_surrogate_pair_is_in_no_models_name(site: Site) -> None:
    body = b'{"model": "\\ud800/a", "input": "a"}'

    assert error_of(post(site, "embeddings", body)) == (404, "model", "model_not_found")


def test_a_private_model_of_others_is_as_one_that_does_not_exist(site: Site) -> None:
    told = [
        post(site, "embeddings", BODY | {"model": model}, "stranger").json()["error"]
        for model in ("openlab/secret", "openlab/nothing")
    ]

    assert told[0] == told[1]


def test_without_a_subscription(client: Client) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client("stranger").embeddings.create(model=MODEL, input="a")

    assert refused.value.code == "subscription_required"


def test_without_the_right_to_call(site: Site) -> None:
    assert error_of(post(site, "embeddings", BODY, "viewer")) == (403, None, "insufficient_permissions")


def test_a_quota_that_is_used_up(site: Site, client: Client) -> None:
    key = site.customer(MODEL, included_units=1)
    client(key).embeddings.create(model=MODEL, input="a")

    # Its own retries would wait for what comes next month.
    with pytest.raises(openai.RateLimitError) as refused:
        client(key, max_retries=2).embeddings.create(model=MODEL, input="a")

    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
    assert 0 < int(refused.value.response.headers["retry-after"]) <= timedelta(days=32).total_seconds()
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert [(hold.state, hold.charged) for hold in site.holds(key)] == [("settled", 1)]


def test_a_rate_that_is_passed(site: Site) -> None:
    key = site.customer(MODEL, requests_per_second=1, burst=1)

    with ThreadPoolExecutor(8) as at_once:
        answers = list(at_once.map(lambda _: post(site, "embeddings", BODY, key), range(8)))

    answer = next(answer for answer in answers if answer.status_code != 200)
    assert error_of(answer) == (429, None, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "1"
    assert 0 < int(answer.headers["retry-after-ms"]) <= 1000
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_packages_own_retries_outlast_a_rate(site: Site, client: Client) -> None:
    key = site.customer(MODEL, requests_per_second=4, burst=1)
    ours = client(key, max_retries=5)

    for _ in range(3):
        ours.embeddings.create(model=MODEL, input="a")

    assert [hold.charged for hold in site.holds(key)] == [Decimal(1)] * 3


def test_a_model_that_no_server_has(client: Client, unloaded: str) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        client().embeddings.create(model=unloaded, input="a")

    assert (refused.value.status_code, refused.value.code) == (503, "model_unavailable")
    assert refused.value.response.headers["retry-after-ms"] == "2000"


def test_triton_is_away(site: Site, without_triton: Server) -> None:
    answer = httpx.post(f"{without_triton.url}/v1/embeddings", json=BODY, headers=site.headers("subscriber"))

    assert error_of(answer) == (503, "model", "model_unavailable")


def test_the_records_are_away(site: Site, without_records: Server) -> None:
    url, headers = f"{without_records.url}/v1", site.headers("subscriber")
    answers = [
        httpx.post(f"{url}/embeddings", json=BODY, headers=headers, timeout=30),
        httpx.get(f"{url}/models", headers=headers, timeout=30),
    ]

    assert [error_of(answer) for answer in answers] == [(503, None, "model_unavailable")] * 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)


def test_the_model_takes_too_long(site: Site, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=4000, included_units=4000)
    body = {"model": babbler, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    with site.another_server(GENERATION_TIMEOUT_SECONDS="0.1") as server:
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=site.headers(key), timeout=30)

    assert error_of(answer) == (504, None, "deadline_exceeded")
    assert [(hold.state, hold.charged) for hold in site.holds(key)] == [("released", 0)]


def test_what_nobody_expected_gives_nothing_away() -> None:
    told = failure(RuntimeError("the password is 7"))

    assert (told.status, told.content["error"]["code"]) == (500, "internal_error")
    assert "password" not in str(told)


def test_token_ids_for_a_model_that_knows_none(site: Site, unloaded: str) -> None:
    answer = post(site, "embeddings", {"model": unloaded, "input": [1, 2]})

    assert error_of(answer) == (400, "input", None)


def test_an_idempotency_key_that_was_used_for_something_else(site: Site) -> None:
    key = site.customer(MODEL)
    post(site, "embeddings", BODY, key, idempotency_key="one")

    answer = post(site, "embeddings", BODY | {"input": "b"}, key, idempotency_key="one")

    assert error_of(answer) == (409, None, "idempotency_conflict")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff", b'{"model": NaN}', b"[" * 100_000, b"{" * 9, b'{"a":' * 60_000, b"9" * 5000],
)
@pytest.mark.parametrize("path", ["embeddings", "chat/completions", "completions"])
def test_what_is_no_json_object(site: Site, path: str, body: bytes) -> None:
    assert error_of(post(site, path, body)) == (400, None, None)


def test_a_body_that_is_too_large(site: Site) -> None:
    large = b'{"model": "' + b"a" * 5_000_000 + b'"}'

    declared = post(site, "embeddings", large)
    undeclared = httpx.post(
        f"{site.url}/v1/embeddings", content=iter([large]), headers=site.headers("subscriber"), timeout=30
    )

    assert error_of(declared) == error_of(undeclared) == (413, None, None)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "embeddings", (405, None, "method_not_allowed")),
        ("DELETE", "models/openlab/minilm", (405, None, "method_not_allowed")),
        ("POST", "audio/speech", (404, None, "unknown_url")),
        ("GET", "", (404, None, "unknown_url")),
        ("GET", "modelsandmore", (404, None, "unknown_url")),
    ],
)
def test_an_address_that_there_is_not(
    site: Site, method: str, path: str, expected: tuple[int, str | None, str]
) -> None:
    answer = httpx.request(method, f"{site.url}/v1/{path}", headers=site.headers("subscriber"))

    assert error_of(answer) == expected
    assert ("allow" in answer.headers) is (answer.status_code == 405)


def test_the_requests_id_comes_back(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client().embeddings.create(model="a/b", input="a", extra_headers={"X-Request-Id": "mine"})

    assert refused.value.request_id == "mine"

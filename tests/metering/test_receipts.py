"""Signed receipts: whoever has the public key can check one, and nobody but us can make one."""

import hashlib
import json
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from io import StringIO
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.core.management import CommandError, call_command
from django.test import Client

from graphql_api.nodes import global_id
from marketplace.access import TenantRole
from marketplace.metering import connections, receipts, signing
from marketplace.metering.admission import admit, release, settle
from marketplace.metering.models import Hold
from tests import factories
from tests.graphql_api.caller import Caller, nodes

pytestmark = pytest.mark.django_db(transaction=True)

REQUEST, ANSWER = hashlib.sha256(b"request").digest(), hashlib.sha256(b"answer").digest()

RECEIPTS = "{ viewer { tenant { invocations { edges { node { status receipt } } } } } }"


class Shop:
    """acme has called openlab/add, past what its plan includes: once delivered, once failed, once under way."""

    def __init__(self) -> None:
        self.consumer = factories.tenant("acme")
        self.version = factories.version(factories.model(factories.tenant("openlab", is_publisher=True), "add"), 3)
        factories.subscription(
            self.consumer,
            factories.plan(self.version.model, unit="ELEMENT", included_units=0, overage_price=Decimal("0.000250000")),
        )
        self.caller = Caller(key=factories.api_key(self.consumer))
        async_to_sync(self._call)()

    async def _call(self) -> None:
        principal = factories.principal(self.consumer, TenantRole.DEVELOPER)
        arguments = {"version_id": self.version.pk, "elements": 2, "most_seconds": 10, "digest": REQUEST}
        try:
            self.delivered, failed, self.under_way = [
                (await admit(principal, **arguments)).hold_id
                for _ in range(3)  # type: ignore[arg-type]
            ]
            await settle(self.delivered, latency_ms=1, answer_digest=ANSWER)
            await release(failed, because="INFERENCE_FAILED")
        finally:
            await connections.close()

    def receipt(self) -> str:
        text = receipts.receipt(receipts.with_charge().get(pk=self.delivered))
        assert text is not None
        return text


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.DATA_DIR = tmp_path
    settings.PUBLIC_URL = "https://market.example"
    yield
    signing._key_in.cache_clear()


@pytest.fixture
def shop(transactional_db: None) -> Shop:
    return Shop()


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_receipt_says_what_was_called_delivered_and_charged(shop: Shop) -> None:
    header, claims, _signature = shop.receipt().split(".")

    hold = Hold.objects.get(pk=shop.delivered)
    assert hold.finished_at is not None
    assert json.loads(decoded(header)) == {"alg": "EdDSA", "kid": signing.public_jwk()["kid"], "typ": "receipt+jwt"}
    assert json.loads(decoded(claims)) == {
        "iss": "https://market.example",
        "jti": str(shop.delivered),
        "sub": "acme",
        "model": "openlab/add",
        "version": 3,
        "artifact_sha256": shop.version.sha256,
        "request_sha256": REQUEST.hex(),
        "answer_sha256": ANSWER.hex(),
        "unit": "ELEMENT",
        "units": "2",
        "amount": "0.0005",
        "currency": "USD",
        "created_at": f"{hold.created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "finished_at": f"{hold.finished_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def test_a_receipt_is_the_same_each_time_it_is_asked_for(shop: Shop) -> None:
    assert shop.receipt() == shop.receipt()


def test_anybody_can_check_it_with_the_published_key_and_a_library_for_ed25519(shop: Shop, client: Client) -> None:
    response = client.get("/.well-known/jwks.json")
    (key,) = response.json()["keys"]
    header, claims, signature = shop.receipt().split(".")

    public = Ed25519PublicKey.from_public_bytes(decoded(key["x"]))
    public.verify(decoded(signature), f"{header}.{claims}".encode())
    with pytest.raises(InvalidSignature):
        public.verify(decoded(signature), f"{header}.{claims}A".encode())

    assert response.headers["Content-Type"] == "application/jwk-set+json"
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert key["kid"] == json.loads(decoded(header))["kid"]
    assert "d" not in key


def test_the_key_s_id_is_its_thumbprint() -> None:
    """The example of RFC 8037, A.3."""
    key = signing.public_jwk()
    thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{key["x"]}"}}'.encode()).digest()

    assert decoded(key["kid"]) == thumbprint


def test_only_what_was_delivered_has_a_receipt_and_the_tenant_sees_its_own(shop: Shop) -> None:
    answers = {
        node["status"]: node["receipt"] for node in nodes(shop.caller.data(RECEIPTS)["viewer"]["tenant"]["invocations"])
    }

    assert answers == {"SUCCEEDED": shop.receipt(), "FAILED": None, "RUNNING": None}


def test_no_other_tenant_sees_it(shop: Shop) -> None:
    document = "query ($id: ID!) { node(id: $id) { ... on Invocation { receipt } } }"
    own = global_id("Invocation", shop.delivered)
    publisher = Caller(key=factories.api_key(shop.version.model.publisher))
    stranger = Caller(key=factories.api_key(factories.tenant("globex")))

    assert shop.caller.data(document, id=own) == {"node": {"receipt": shop.receipt()}}
    for other in (publisher, stranger, Caller()):
        assert other.data(document, id=own) == {"node": None}


def test_a_page_of_receipts_takes_no_statement_for_each(shop: Shop) -> None:
    one = shop.caller.queries(RECEIPTS)
    for _ in range(5):
        factories.hold(shop.consumer, shop.version)

    assert len(shop.caller.queries(RECEIPTS)) == len(one)


def verified(text: str) -> tuple[int, str]:
    """Exit status and output of `manage.py verify_receipt`."""
    output = StringIO()
    try:
        call_command("verify_receipt", text, stdout=output)
    except SystemExit as ending:
        return int(ending.code or 0), output.getvalue()
    return 0, output.getvalue()


def test_the_command_finds_a_good_receipt_good_as_text_and_as_a_file(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "receipt.txt"
    file.write_text(shop.receipt() + "\n")

    for argument in (shop.receipt(), str(file)):
        assert verified(argument) == (0, "The receipt is good: we signed it, and the ledger says the same.\n")


@pytest.mark.parametrize("change", [{"amount": "0"}, {"sub": "globex"}, {"units": "1"}, {"more": "?"}])
def test_a_receipt_that_was_changed_is_refused(shop: Shop, change: dict[str, str]) -> None:
    header, claims, signature = shop.receipt().split(".")
    changed = encoded(json.loads(decoded(claims)) | change)

    status, words = verified(f"{header}.{changed}.{signature}")

    assert (status, words) == (
        1,
        "The signature does not match: the receipt was changed, or another key signed it.\n",
    )


def test_a_receipt_signed_by_another_key_is_refused(shop: Shop) -> None:
    header, claims, _signature = shop.receipt().split(".")
    forged = Ed25519PrivateKey.generate().sign(f"{header}.{claims}".encode())

    assert verified(f"{header}.{claims}.{urlsafe_b64encode(forged).decode().rstrip('=')}")[0] == 1


@pytest.mark.parametrize(
    "change", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "JWT"}, {"kid": "another"}, {"crit": ["exp"]}, {"jwk": {}}]
)
def test_a_header_that_is_not_ours_is_refused_whatever_signs_it(shop: Shop, change: dict[str, Any]) -> None:
    header, claims, _signature = shop.receipt().split(".")
    signed = f"{encoded(json.loads(decoded(header)) | change)}.{claims}"
    signature = signing._private_key().sign(signed.encode())

    status, words = verified(f"{signed}.{urlsafe_b64encode(signature).decode().rstrip('=')}")

    assert status == 1
    assert words.startswith("Its header is not that of a receipt of ours")


@pytest.mark.parametrize(
    "shape", ["{h}", "{h}.{c}", "{h}.{c}.{s}.", "{h}.{c}.", "{h}.{c}.{s}=", "eyJ.é.x", "{h}.{c}.{s}A"]
)
def test_what_is_no_compact_jws_is_refused(shop: Shop, shape: str) -> None:
    header, claims, signature = shop.receipt().split(".")

    assert verified(shape.format(h=header, c=claims, s=signature))[0] == 1


def test_the_command_says_what_the_ledger_says_otherwise(shop: Shop) -> None:
    receipt = shop.receipt()
    Hold.objects.filter(pk=shop.delivered).update(charged=5)

    assert verified(receipt) == (1, "units: the receipt says 2, the ledger 5.\n")


def test_a_receipt_of_a_call_that_the_ledger_does_not_know_is_refused(shop: Shop) -> None:
    receipt = signing.sign({"jti": str(shop.under_way)})

    assert verified(receipt) == (1, f"The ledger knows no settled invocation {shop.under_way}.\n")


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("verify_receipt", str(tmp_path / "missing"))


def test_the_key_is_drawn_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    first = signing.public_jwk()
    signing._key_in.cache_clear()

    assert signing.public_jwk() == first
    assert [path.name for path in tmp_path.iterdir()] == ["receipt_key"]
    assert stat.S_IMODE((tmp_path / "receipt_key").stat().st_mode) == 0o600


def test_of_all_who_draw_a_key_at_once_one_wins(tmp_path: Path) -> None:
    path, start = tmp_path / "receipt_key", Barrier(4)

    def draw(_number: int) -> bytes:
        start.wait()
        signing._draw(path)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(draw, range(4)))

    assert len(keys) == 1
    assert list(tmp_path.iterdir()) == [path]

"""openlab/smollm2, a language model. `make demo-llm` fetches it; whatever loads the demo from then on puts it up."""

import os
from decimal import Decimal
from pathlib import Path

from django.conf import settings

from demo.entry import Entry, Offer
from marketplace.access import Principal
from marketplace.subscriptions.models import MeteredUnit

NAME = "smollm2"
# Prompt and answer together: as long as the model's context.
MAX_TOKENS_PER_CALL = 2_048
PLANS = tuple(
    Offer(name, Decimal(price), Decimal(tokens), rate, MeteredUnit.TOKEN, MAX_TOKENS_PER_CALL)
    for name, price, tokens, rate in (
        ("Trial", 0, 5_000, 1_000),
        ("Free", 0, 100_000, 10),
        ("Scale", 99, 1_000_000_000, 100_000),
    )
)


def archive() -> Path:
    """Where `make demo-llm` leaves it."""
    return Path(settings.DATA_DIR) / f"{NAME}.zip"


def entry(artifact: Path, *, name: str = NAME) -> Entry:
    """Any model of the backend `generator`, under that name."""
    return Entry(name, described_as=NAME, plans=PLANS, made_by=lambda path: os.symlink(artifact.resolve(), path))


def publish(publisher: Principal, artifact: Path, *, name: str = NAME) -> None:
    """Puts it up, live and with its plans; nobody is subscribed yet."""
    entry(artifact, name=name).publish(publisher)

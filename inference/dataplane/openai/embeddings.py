"""POST /v1/embeddings: texts, or lists of the model's own token ids, become vectors."""

import asyncio
import binascii
import json
from typing import Any, NamedTuple

import numpy as np
from django.utils.translation import gettext as _

from inference.callers import as_caller, place_of
from inference.invocation import Invocation, invoke
from inference.tensors import RawTensor, Signature, Tensor
from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion

from .answers import encoded, outputs_of
from .errors import Refused
from .fields import Fields, wrong_type, wrong_value
from .serving import TOKENS, Asked, Embedder, asked, embedder, served

KNOWN = frozenset({"model", "input", "encoding_format", "dimensions"})
MAX_INPUTS = 2048
MAX_TOKEN_ID = 2**31 - 1
# Others wait while decimals are written: a hundred thousand of them take a few dozen milliseconds.
ROWS_AT_ONCE = 64


class _Wanted(NamedTuple):
    """`texts` are JSON lists when they `are_ids`."""

    model: Asked
    texts: list[str]
    are_ids: bool
    in_base64: bool
    dimensions: int | None


async def answer(fields: Fields, secret: str, idempotency_key: str | None) -> tuple[ModelVersion, bytes]:
    """The answer's JSON, and the version that it is of."""
    wanted = _wanted(fields)

    def form(task: str, signature: Signature) -> Embedder | None:
        found = embedder(task, signature)
        if found is not None:
            _check(wanted, found)
        return found

    async def work(principal: Principal, hinted: bool) -> Invocation:
        _version, model = await served(principal, wanted.model, form, hinted=hinted)
        return await invoke(
            principal,
            ref=wanted.model.ref,
            version=wanted.model.number,
            inputs=[RawTensor(model.input, "BYTES", [len(wanted.texts)], wanted.texts)],
            outputs=[model.output, *([TOKENS.name] if model.counts_tokens else [])],
            parameters={"token_ids": True} if wanted.are_ids else None,
            idempotency_key=idempotency_key,
            hinted=hinted,
        )

    with place_of(secret):
        done = await as_caller(secret, work)
    vectors, *counts = outputs_of(done)
    tokens = sum(count.total() or 0 for count in counts)
    written = _base64 if wanted.in_base64 else _decimals
    rows: list[bytes] = []
    for start in range(0, vectors.shape[0], ROWS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        for index, vector in enumerate(written(vectors, start), start):
            rows.append(encoded({"object": "embedding", "index": index, "embedding": vector}))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = encoded({"model": wanted.model.name, "usage": usage})
    return done.version, b'{"object":"list","data":[' + b",".join(rows) + b"]," + rest[1:]


def _wanted(fields: Fields) -> _Wanted:
    fields.check(KNOWN, {})
    model = asked(fields.text("model"))
    texts, are_ids = _texts(fields.required("input"))
    encoding = fields.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise wrong_value("encoding_format", _("'encoding_format' is 'float' or 'base64'."))
    return _Wanted(
        model, texts, are_ids, encoding == "base64", fields.integer("dimensions", least=1, most=MAX_TOKEN_ID)
    )


def _texts(value: object) -> tuple[list[str], bool]:
    """The texts of `input`, and whether they are token ids: one text or list of ids, or a list of either."""
    several: list[Any] = value if isinstance(value, list) else [value]
    if isinstance(value, list) and value and type(value[0]) is int:
        several = [value]
    if not 0 < len(several) <= MAX_INPUTS:
        raise wrong_value("input", _("'input' has 1 to %(most)d elements.") % {"most": MAX_INPUTS})
    are_ids = isinstance(several[0], list)
    for index, each in enumerate(several):
        path = f"input.{index}"
        if not isinstance(each, list if are_ids else str):
            raise wrong_type(path, _("a list of token ids") if are_ids else _("a string, or a list of token ids"))
        if not each:
            raise wrong_value(path, _("'%(path)s' is empty.") % {"path": path})
        if are_ids and not all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in each):
            raise wrong_type(path, _("a list of token ids"))
    return [json.dumps(each) for each in several] if are_ids else several, are_ids


def _check(wanted: _Wanted, model: Embedder) -> None:
    if wanted.are_ids and not model.counts_tokens:
        raise Refused(_("%(model)s takes no token ids: send it text.") % {"model": wanted.model.name}, path="input")
    if wanted.dimensions not in (None, model.dimensions):
        raise Refused(
            _("%(model)s has vectors of one size; leave 'dimensions' out.") % {"model": wanted.model.name},
            path="dimensions",
            code="unsupported_parameter",
        )


def _base64(vectors: Tensor, start: int) -> list[str]:
    """The little-endian float32 of each of ROWS_AT_ONCE rows, as the model gave them."""
    size = 4 * vectors.shape[1]
    stop = min(start + ROWS_AT_ONCE, vectors.shape[0])
    rows = (vectors.content[row * size : (row + 1) * size] for row in range(start, stop))
    return [binascii.b2a_base64(row, newline=False).decode() for row in rows]


def _decimals(vectors: Tensor, start: int) -> list[list[float | None]]:
    """The numbers of each of ROWS_AT_ONCE rows, none of them rounded. What JSON cannot say is null; base64 has it."""
    values = np.frombuffer(vectors.content, "<f4").reshape(vectors.shape)[start : start + ROWS_AT_ONCE]
    rows: list[list[float | None]] = values.astype(np.float64).tolist()
    if np.isfinite(values).all():
        return rows
    return [[number if number is not None and np.isfinite(number) else None for number in row] for row in rows]

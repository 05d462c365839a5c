"""An OpenAI-style server that does nothing: the same answer to whatever it is sent, as bytes that were made before.

`uvicorn benchmarks.upstream:application`. It stands where a model would behind gateways that speak OpenAI's protocol.
"""

import base64
import json
import struct
from typing import Any

MODEL, GENERATOR = "openlab/constant", "babbler"
# Each embedding has so many numbers, and each of them is that one.
SIZE, NUMBER = 384, 0.25
BASE64 = base64.b64encode(struct.pack("<f", NUMBER) * SIZE).decode()

CONTENT = json.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": BASE64}],
        "model": MODEL,
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    separators=(",", ":"),
).encode()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(CONTENT)).encode())],
}
BODY = {"type": "http.response.body", "body": CONTENT}


async def application(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)

"""What becomes of a call that is refused."""

from typing import Any

import grpc.aio
import pytest


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value

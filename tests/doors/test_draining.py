"""A server that is told to end: what is under way finishes or hears to try again, and nobody is cut off."""

import asyncio
import signal
from pathlib import Path

import grpc
import httpx
import pytest

from inference.oip import ModelInferRequest, ModelInferResponse
from tests.doors import counter
from tests.doors.site import Server, Site

ADD = {
    "inputs": [
        {"name": name, "datatype": "FP32", "shape": [1], "data": [value]} for name, value in (("A", 1.5), ("B", 2.25))
    ]
}
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def key(site: Site) -> str:
    return counter.put_up(site, site.triton_grpc)


async def test_a_stream_that_ends_in_time_is_whole(site: Site, key: str, tmp_path: Path) -> None:
    with site.another_server() as server:
        async with counter.streaming(server, key, 3, gate=tmp_path / "gate", gate_at=1) as stream:
            await stream.next()
            server.process.send_signal(signal.SIGTERM)
            (tmp_path / "gate").touch()

            *chunks, last = await stream.rest()

        assert (len(chunks), last) == (3, {"invocation": {"units": "4"}, "errors": []})
        assert await asyncio.to_thread(server.process.wait, 60) == -signal.SIGTERM


async def test_one_that_does_not_hears_to_try_again_and_is_charged_what_was_taken(
    site: Site, key: str, tmp_path: Path
) -> None:
    before = await counter.until_charged(site, key)
    with site.another_server(DRAIN_SECONDS="0.5") as server:
        async with counter.streaming(server, key, 3, gate=tmp_path / "never", gate_at=1) as stream:
            await stream.next()
            server.process.send_signal(signal.SIGTERM)

            last = (await stream.rest())[-1]

        (problem,) = last["errors"]
        assert (problem["__typename"], "restarted" in problem["message"]) == ("ModelUnavailable", True)
        assert problem["retryAfterMs"] > 0
        assert await asyncio.to_thread(server.process.wait, 60) == -signal.SIGTERM
    assert await counter.until_charged(site, key) - before == 2


async def test_who_asks_on_an_open_connection_hears_to_try_again(site: Site, key: str, tmp_path: Path) -> None:
    headers = site.headers("subscriber")
    with site.another_server() as server:
        async with (
            counter.streaming(server, key, 2, gate=tmp_path / "gate", gate_at=1) as stream,
            httpx.AsyncClient(base_url=server.url, headers=headers) as client,
            grpc.aio.insecure_channel(server.grpc) as channel,
        ):
            infer = channel.unary_unary(
                INFER,
                request_serializer=ModelInferRequest.SerializeToString,
                response_deserializer=ModelInferResponse.FromString,
            )
            key_in_metadata = (("authorization", headers["Authorization"]),)
            await stream.next()
            assert (await client.post("/v2/models/openlab/add/infer", json=ADD)).status_code == 200
            with pytest.raises(grpc.aio.AioRpcError):
                await infer(ModelInferRequest(model_name="openlab/add"), metadata=key_in_metadata)

            server.process.send_signal(signal.SIGTERM)
            await until_it_refuses(server)
            refused = await client.post("/v2/models/openlab/add/infer", json=ADD)
            with pytest.raises(grpc.aio.AioRpcError) as unavailable:
                await infer(ModelInferRequest(model_name="openlab/add"), metadata=key_in_metadata)

            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert int(refused.headers["retry-after"]) >= 1
            assert "restarted" in refused.json()["error"]
            assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
            (tmp_path / "gate").touch()
            assert (await stream.rest())[-1]["errors"] == []


async def until_it_refuses(server: Server) -> None:
    """Until it no longer listens."""
    host, _colon, port = server.http.partition(":")
    while True:
        try:
            _reader, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)

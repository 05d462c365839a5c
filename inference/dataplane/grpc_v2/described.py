"""What the service says of the server and of models: the dicts of `describe`, as messages."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.utils.translation import gettext as _
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from inference import oip
from inference.callers import place_of, principal_by_secret
from inference.dataplane import describe
from marketplace.access import Principal
from marketplace.errors import NotFound, ValidationProblem

from .conversation import Caller, Context, read
from .messages import parsed, version_of

Method = Callable[[Context, Caller], Awaitable[bytes]]


async def _server_live(_context: Context, _caller: Caller) -> bytes:
    return _written(oip.ServerLiveResponse(live=True))


async def _server_ready(_context: Context, _caller: Caller) -> bytes:
    return _written(oip.ServerReadyResponse(ready=await describe.is_server_ready()))


async def _server_metadata(_context: Context, _caller: Caller) -> bytes:
    return _written(ParseDict(describe.server(), oip.ServerMetadataResponse()))


def _asked(request: type[Message], answer: Callable[[Principal, Any], Awaitable[Message]]) -> Method:
    """A method whose answer depends on who asks for what; anybody may, and sees what is public."""

    async def method(context: Context, caller: Caller) -> bytes:
        # Those without a key share the places of one.
        with place_of(caller.secret or ""):
            principal = await principal_by_secret(caller.secret)
            return _written(await answer(principal, parsed(request, await read(context))))

    return method


async def _model_ready(principal: Principal, message: Any) -> Message:
    try:
        ready = await describe.is_model_ready(principal, message.name, version_of(message.version))
    except NotFound:
        ready = False
    return oip.ModelReadyResponse(ready=ready)


async def _model_metadata(principal: Principal, message: Any) -> Message:
    found = await describe.metadata(principal, message.name, version_of(message.version))
    return ParseDict(found, oip.ModelMetadataResponse())


async def _model_config(principal: Principal, message: Any) -> Message:
    found = await describe.config(principal, message.name, version_of(message.version))
    return ParseDict({"config": found}, oip.ModelConfigResponse())


async def _model_statistics(principal: Principal, message: Any) -> Message:
    found = await describe.statistics(principal, message.name or None, version_of(message.version))
    return ParseDict(found, oip.ModelStatisticsResponse())


async def _repository_index(principal: Principal, message: Any) -> Message:
    if message.repository_name:
        raise ValidationProblem(_("There is one repository, without a name."), path="input.repository_name")
    return ParseDict({"models": await describe.index(principal, ready=message.ready)}, oip.RepositoryIndexResponse())


def _written(message: Message) -> bytes:
    return bytes(message.SerializeToString())


METHODS: dict[str, Method] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ServerMetadata": _server_metadata,
    "ModelReady": _asked(oip.ModelReadyRequest, _model_ready),
    "ModelMetadata": _asked(oip.ModelMetadataRequest, _model_metadata),
    "ModelConfig": _asked(oip.ModelConfigRequest, _model_config),
    "ModelStatistics": _asked(oip.ModelStatisticsRequest, _model_statistics),
    "RepositoryIndex": _asked(oip.RepositoryIndexRequest, _repository_index),
}

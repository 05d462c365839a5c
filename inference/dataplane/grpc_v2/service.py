"""`inference.GRPCInferenceService`, method by method. Tensors have rooms of their own: `infer` and `stream`."""

import grpc
from django.utils.translation import gettext as _

from inference.oip import SERVICE
from marketplace.errors import PermissionDenied

from .conversation import Caller, Context, method
from .infer import model_infer
from .stream import Streams


class Service(grpc.GenericRpcHandler):
    """Must be made in the event loop that it serves in."""

    def __init__(self) -> None:
        self._streams = Streams()
        answers = {"ModelInfer": method(model_infer)}
        denied = method(_denied)
        self._handlers = {
            f"/{SERVICE.full_name}/{each.name}": answers.get(each.name, denied) for each in SERVICE.methods
        }
        self._handlers[f"/{SERVICE.full_name}/ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._streams)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    def drain(self) -> None:
        """Streams take no more requests, and end when those that they have are answered."""
        if not self._streams.draining.done():
            self._streams.draining.set_result(None)


async def _denied(_context: Context, _caller: Caller) -> bytes:
    raise PermissionDenied(
        _("Models and settings of the servers are the marketplace's: publish, release and retire versions there.")
    )

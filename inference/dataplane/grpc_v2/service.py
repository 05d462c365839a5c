"""`inference.GRPCInferenceService`: its methods by name, and none that would change a server."""

import grpc
from django.utils.translation import gettext as _

from inference.oip import SERVICE
from marketplace.errors import PermissionDenied

from .conversation import Caller, Context, method
from .described import METHODS
from .infer import model_infer
from .stream import model_stream_infer


class Service(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        answers = {name: method(answer) for name, answer in (*METHODS.items(), ("ModelInfer", model_infer))}
        denied = method(_denied)
        self._handlers = {
            f"/{SERVICE.full_name}/{each.name}": answers.get(each.name, denied) for each in SERVICE.methods
        }
        streamed = grpc.stream_stream_rpc_method_handler(model_stream_infer)
        self._handlers[f"/{SERVICE.full_name}/ModelStreamInfer"] = streamed

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)


async def _denied(_context: Context, _caller: Caller) -> bytes:
    raise PermissionDenied(
        _("Models and settings of the servers are the marketplace's: publish, release and retire versions there.")
    )

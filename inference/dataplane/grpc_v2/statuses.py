"""Expected failures as gRPC statuses, with google.rpc details (grpc-status-details-bin) for clients that read them."""

from math import ceil

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY

from inference.dataplane.retrying import seconds_until_retry
from marketplace.errors import MarketplaceError

DOMAIN = "inference"

Metadata = tuple[tuple[str, str | bytes], ...]


def code_of(error: MarketplaceError) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_status]


def message_of(error: MarketplaceError) -> str:
    """With the field that is wrong, for clients that show nothing else."""
    field = _field(error)
    return f"{field}: {error.message}" if field else error.message


def details_of(error: MarketplaceError) -> Metadata:
    """ErrorInfo, whose `reason` is the error's code; BadRequest, which names the field; RetryInfo, when it may pass."""
    details: list[Message] = [ErrorInfo(reason=error.code, domain=DOMAIN)]
    field = _field(error)
    if field:
        violation = BadRequest.FieldViolation(field=field, description=error.message)
        details.append(BadRequest(field_violations=[violation]))
    seconds = seconds_until_retry(error)
    if seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(ceil(seconds * 1000))
        details.append(RetryInfo(retry_delay=delay))
    packed = []
    for each in details:
        packed.append(Packed())
        packed[-1].Pack(each)
    status = Status(code=Code.Value(error.grpc_status), message=message_of(error), details=packed)
    return ((GRPC_DETAILS_METADATA_KEY, status.SerializeToString()),)


def _field(error: MarketplaceError) -> str:
    """As it is called in the message; "" for an error that is not about one."""
    path = error.path or ""
    return _FIELDS.get(path, path.removeprefix("input."))


_FIELDS = {"input.model": "model_name", "input.version": "model_version", "input.idempotencyKey": "idempotency-key"}

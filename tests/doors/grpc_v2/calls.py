"""Messages by hand, for what no client would send, and what a refusal says."""

import struct
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from inference.oip import ModelInferRequest

SERVICE = "/inference.GRPCInferenceService"


def fp32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def question(model: str = "openlab/add", /, **fields: Any) -> ModelInferRequest:
    """1.5 + 2.25."""
    message = ModelInferRequest(**{"model_name": model} | fields)
    for name, value in (("A", 1.5), ("B", 2.25)):
        message.inputs.add(name=name, datatype="FP32", shape=[1])
        message.raw_input_contents.append(fp32(value))
    return message


def bearer(key: str, **metadata: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"), *((name.replace("_", "-"), value) for name, value in metadata.items()))


class Refusal:
    """`reason`, `field` and `retry_after` (seconds) as the status's google.rpc details have them; None without."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()
        self.message = error.details()
        self.reason = self.field = self.retry_after = None
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            for kind in (ErrorInfo, BadRequest, RetryInfo):
                found = kind()
                if not detail.Unpack(found):
                    continue
                if kind is ErrorInfo:
                    self.reason = found.reason
                elif kind is BadRequest:
                    self.field = found.field_violations[0].field
                else:
                    self.retry_after = found.retry_delay.ToMilliseconds() / 1000

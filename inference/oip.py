"""The messages of the Open Inference Protocol over gRPC, with Triton's extensions, as tritonclient has them."""

from tritonclient.grpc import service_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig  # type: ignore[attr-defined]  # generated at import
from tritonclient.grpc.service_pb2 import (  # type: ignore[attr-defined]  # generated at import
    InferParameter,
    InferTensorContents,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatistics,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    ModelStreamInferResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

__all__ = [
    "SERVICE",
    "InferParameter",
    "InferTensorContents",
    "ModelConfig",
    "ModelConfigRequest",
    "ModelConfigResponse",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelMetadataRequest",
    "ModelMetadataResponse",
    "ModelReadyRequest",
    "ModelReadyResponse",
    "ModelStatistics",
    "ModelStatisticsRequest",
    "ModelStatisticsResponse",
    "ModelStreamInferResponse",
    "RepositoryIndexRequest",
    "RepositoryIndexResponse",
    "ServerLiveResponse",
    "ServerMetadataResponse",
    "ServerReadyResponse",
]

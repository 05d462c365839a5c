"""What tools that know no protocol of ours find: reflection, health, TLS; and a server that is told to end."""

import datetime
import ipaddress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.doors.grpc_v2.calls import bearer, fp32, question
from tests.doors.site import HOST, Site

SERVICE = "inference.GRPCInferenceService"


def test_reflection_tells_enough_to_call_what_it_finds(site: Site) -> None:
    """As grpcurl does: nothing is known but the address."""
    with grpc.insecure_channel(site.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        method = service.FindMethodByName("ModelInfer")
        ask, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        assert {each.name for each in service.methods} >= {"ModelStreamInfer", "RepositoryIndex"}

        call = channel.unary_unary(f"/{service.full_name}/{method.name}", ask.SerializeToString, answered.FromString)
        answer = call(ask.FromString(question().SerializeToString()), metadata=bearer(site.keys["subscriber"]))

        assert list(answer.raw_output_contents) == [fp32(3.75)]


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_health_service_says_serving(channel: grpc.aio.Channel, service: str) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")])
    now = datetime.datetime.now(datetime.UTC)
    public, serial, year = key.public_key(), x509.random_serial_number(), datetime.timedelta(days=365)
    signed = (
        x509.CertificateBuilder(name, name, public, serial, now, now + year)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    files = {"certificate": folder / "tls.crt", "key": folder / "tls.key"}
    files["certificate"].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


async def test_with_a_certificate_the_port_speaks_tls_and_nothing_else(
    site: Site, certificate: dict[str, Path]
) -> None:
    settings = {"GRPC_TLS_CERTIFICATE": certificate["certificate"], "GRPC_TLS_KEY": certificate["key"]}
    with site.another_server(**{name: str(path) for name, path in settings.items()}) as server:
        trusted = grpc.ssl_channel_credentials(certificate["certificate"].read_bytes())
        async with grpc.aio.secure_channel(server.grpc, trusted) as channel:
            answer = await GRPCInferenceServiceStub(channel).ModelInfer(
                question(), metadata=bearer(site.keys["subscriber"])
            )
        assert list(answer.raw_output_contents) == [fp32(3.75)]

        async with grpc.aio.insecure_channel(server.grpc) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await GRPCInferenceServiceStub(channel).ModelInfer(question())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

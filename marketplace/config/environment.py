"""What the operator may set, read once from the environment (twelve-factor), with safe defaults."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = Field(default=8081, ge=0, le=65535)
    # Files in PEM; with both, the gRPC port speaks TLS.
    grpc_tls_certificate: str = ""
    grpc_tls_key: str = ""
    data_dir: Path = Path(".data")
    database_url: str = ""
    valkey_url: str = ""
    triton_urls: str = ""
    # How much the models on each Triton may take together; those that nobody calls make room. 0: as much as they like.
    triton_memory_bytes: int = Field(default=0, ge=0)
    secret_key: str = ""
    debug: bool = False
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    public_url: str = ""
    # As callers reach it, where that is not the host of the pages and GRPC_PORT: grpc:// or grpcs://host:port.
    public_grpc_url: str = ""
    introspection: bool = True
    graphiql: bool = True
    inference_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    # Of a model that generates, whether its answer is streamed or not.
    generation_timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    calls_per_key: int = Field(default=256, ge=1)
    # What is under way when the server is told to end has this long.
    drain_seconds: float = Field(default=20.0, ge=0, le=600)

    # A folder's path, or s3://bucket/prefix?endpoint_url=…&region=…; DATA_DIR/objects without it.
    object_store_url: str = ""
    # What publishers upload: the largest artefact, all that a tenant keeps, how many it sends at a time.
    max_artifact_bytes: int = Field(default=2 * 1024**3, ge=1)
    max_tenant_artifact_bytes: int = Field(default=50 * 1024**3, ge=1)
    max_open_uploads: int = Field(default=16, ge=1)
    # Since its last byte came, of an upload that no version uses.
    upload_expires_hours: float = Field(default=24.0, gt=0, le=24 * 365)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "Environment":
        if bool(self.grpc_tls_certificate) != bool(self.grpc_tls_key):
            raise ValueError("GRPC_TLS_CERTIFICATE and GRPC_TLS_KEY go together: set both, or neither.")
        return self

    @model_validator(mode="after")
    def _the_store_is_known(self) -> "Environment":
        parts = urlsplit(self.object_store_url)
        if parts.scheme not in ("", "s3"):
            raise ValueError("OBJECT_STORE_URL is a folder's path, or s3://bucket/prefix?endpoint_url=…&region=…")
        if parts.scheme and not (parts.netloc and set(parse_qs(parts.query)) <= {"endpoint_url", "region"}):
            raise ValueError("OBJECT_STORE_URL names a bucket, and besides it only `endpoint_url` and `region`.")
        return self

    def resolved(self) -> "Environment":
        """The same, with every server that no variable names taken from what `make run` says is running here."""
        running = self._running()
        return self.model_copy(
            update={
                "database_url": self.database_url or running.get("postgres", {}).get("address", ""),
                "valkey_url": self.valkey_url or running.get("valkey", {}).get("address", ""),
                "triton_urls": self.triton_urls or running.get("triton", {}).get("grpc", ""),
                "secret_key": self.secret_key or self._kept_secret(),
                "public_url": self.public_url or f"http://localhost:{self.port}",
            }
        )

    def _running(self) -> dict[str, Any]:
        try:
            running: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return running

    def _kept_secret(self) -> str:
        try:
            return (self.data_dir / "secret_key").read_text().strip()
        except OSError:
            return ""

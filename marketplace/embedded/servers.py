"""The three servers that everything else needs: ours, or those that the environment names instead."""

from collections.abc import Mapping
from pathlib import Path

from . import postgres, sockets, triton, valkey
from .service import Service


def services(data_dir: Path, environment: Mapping[str, str], *, throwaway: bool = False) -> list[Service]:
    """Those of the three whose address is not in the environment already."""
    private = sockets.folder_in(data_dir)
    chosen = []
    if not environment.get("DATABASE_URL"):
        chosen.append(postgres.service(data_dir / "postgres", private, throwaway=throwaway))
    if not environment.get("VALKEY_URL"):
        chosen.append(valkey.service(data_dir / "valkey", private, throwaway=throwaway))
    if not environment.get("TRITON_URLS"):
        chosen.append(triton.service(data_dir / "triton", throwaway=throwaway))
    return chosen


def variables(chosen: list[Service]) -> dict[str, str]:
    """The environment by which the rest of the house finds them."""
    names = {"postgres": "DATABASE_URL", "valkey": "VALKEY_URL", "triton": "TRITON_URLS"}
    return {names[service.name]: service.addresses.get("grpc") or service.address or "" for service in chosen}

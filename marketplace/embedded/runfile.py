"""`DATA_DIR/run.json`: what runs now, by which process and address, for `manage.py` and for people."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .child import Child


def path_in(data_dir: Path) -> Path:
    return data_dir / "run.json"


def write(data_dir: Path, children: Iterable[Child]) -> None:
    """Replace it in one step by what runs at this moment; without any, remove it."""
    running: dict[str, Any] = {
        child.service.name: {"pid": child.pid, "address": child.service.address, **child.service.addresses}
        for child in children
        if child.pid is not None
    }
    path = path_in(data_dir)
    if not running:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    # The addresses are all that keeps other users of this machine from the data.
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(running, file, indent=2)
    fresh.replace(path)


def read(data_dir: Path) -> dict[str, Any]:
    """What was last written; empty when nothing runs."""
    try:
        running: dict[str, Any] = json.loads(path_in(data_dir).read_text())
    except (OSError, ValueError):
        return {}
    return running

"""What is not ONNX made ONNX, in a process of its own (child.py) that can do nothing else."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.checks.refusal import Refused
from inference.checks.report import text
from inference.checks.sandbox import SandboxFailed

PROJECT = Path(__file__).parents[2]
# TensorFlow's own: `make conversion` makes it.
ENVIRONMENT = PROJECT / ".venv-convert"
KINDS_OF_TENSORFLOW = frozenset({"saved-model", "tflite"})

SECONDS = 600.0
MAX_TOLD_BYTES = 4 * 1024**2  # labels may be many
LOG_LINES, INFO = 5, " - INFO - "
MAX_LABELS, MAX_LABEL = 65_536, 255

TOO_SLOW = Refused(
    f"The conversion was not over after {SECONDS:.0f} seconds.",
    "Convert the model yourself with tf2onnx, and upload the ONNX model.",
)
BROKE = Refused(
    "The conversion broke off: whatever reads the model crashes, or has not enough memory.",
    "Convert the model yourself with tf2onnx, and upload the ONNX model.",
)


@dataclass(frozen=True, slots=True)
class Converted:
    """`labels`: by output, what the source called its classes; `log`: the last of what the libraries said."""

    seconds: float
    log: str
    labels: Mapping[str, Sequence[str]]


def is_available(kind: str) -> bool:
    """Whether this machine can convert such models."""
    return kind not in KINDS_OF_TENSORFLOW or _python(kind).exists()


def convert(kind: str, scratch: Path) -> Converted:
    """Makes `model.onnx` of `artifact`, both in the folder `scratch`. Raises Refused, or SandboxFailed."""
    started = time.monotonic()
    child = subprocess.Popen(
        [_python(kind), "-I", "-B", Path(__file__).with_name("child.py"), PROJECT, kind, scratch],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # No secret of the worker's is in it, and what the libraries keep for themselves goes with the folder.
        env={"HOME": str(scratch), "TMPDIR": str(scratch), "LANG": "C.UTF-8"},
        cwd=scratch,
        start_new_session=True,
    )
    try:
        said = _said(child, started + SECONDS)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    *log, last = said.rsplit(b"\n", 1)[0].splitlines() or [b""]
    told = _told(last)
    if "unconfined" in told:
        raise SandboxFailed(text(told["unconfined"].get("reason")))
    if refused := told.get("refused"):
        raise Refused(text(refused.get("reason")), text(refused.get("advice")))
    model = scratch / "model.onnx"
    if "converted" not in told or model.is_symlink() or not model.is_file():
        raise TOO_SLOW if time.monotonic() - started >= SECONDS else BROKE
    return Converted(time.monotonic() - started, _excerpt(log, scratch), _labels(told["converted"].get("labels")))


def _python(kind: str) -> Path:
    return ENVIRONMENT / "bin" / "python" if kind in KINDS_OF_TENSORFLOW else Path(sys.executable)


def _said(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """The last of it, until it has no more to say or the time is up."""
    assert child.stdout is not None
    said = b""
    with child.stdout as output:
        while (left := deadline - time.monotonic()) > 0 and select.select([output], [], [], left)[0]:
            chunk = os.read(output.fileno(), 64 * 1024)
            if not chunk:
                break
            said = (said + chunk)[-MAX_TOLD_BYTES:]
    return said


def _told(line: bytes) -> dict[str, Any]:
    """Nothing, when it is not as child.py writes it: whoever broke in there may have written it."""
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(line)
        if isinstance(told, dict) and all(isinstance(value, dict) for value in told.values()):
            return told
    return {}


def _excerpt(log: Sequence[bytes], scratch: Path) -> str:
    """The last lines of the converter's own log, in one."""
    lines = [text(line.decode(errors="replace").replace(str(scratch), "")) for line in log]
    own = [line.partition(INFO)[2] for line in lines if INFO in line]
    return "; ".join(filter(None, own[-LOG_LINES:]))


def _labels(told: object) -> dict[str, list[str]]:
    if not isinstance(told, dict):
        return {}
    return {
        name: labels
        for name, labels in told.items()
        if isinstance(labels, list)
        and len(labels) <= MAX_LABELS
        and all(isinstance(label, str) and 0 < len(label) <= MAX_LABEL and label.isprintable() for label in labels)
    }

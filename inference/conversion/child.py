"""The process that converts one model: `python -I child.py <folder of this project> <kind> <scratch folder>`.

It takes `artifact` from its scratch folder and leaves `model.onnx` there, locked in (confinement.py) from before it
reads a byte. Its output is what the libraries log, and at the end a line of JSON: {"converted": {"labels": {output:
[...]}}}, {"refused": {"reason", "advice"}}, or {"unconfined": {"reason"}} when it could not be locked in.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# Python leaves the folder of the project out when it is told to be isolated (-I).
sys.path.insert(0, sys.argv[1])

from inference.checks.confinement import CannotConfine, die_with_parent
from inference.checks.refusal import Refused
from inference.conversion.confinement import confine

MODULES = {"saved-model": "tensorflow_models", "tflite": "tensorflow_models", "onnx": "onnx_models"}
# The parts of a system that a Python with native libraries reads.
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/proc/cpuinfo")
OWN_PROCESS = "/proc/self/cmdline"  # TensorFlow ends itself without

MEMORY_BYTES = 4 * 1024**3
CPU_SECONDS = 600
FILE_BYTES = 2 * 1024**3


def main(project: Path, kind: str, scratch: Path) -> None:
    die_with_parent(os.getppid())
    own = (sys.prefix, sys.base_prefix, project / "inference", project / "marketplace" / "errors.py")
    told: dict[str, Any]
    try:
        confine(
            readable=[Path(path).resolve() for path in (*own, *SYSTEM, OWN_PROCESS)],
            writable=scratch,
            memory_bytes=MEMORY_BYTES,
            cpu_seconds=CPU_SECONDS,
            file_bytes=FILE_BYTES,
        )
        converter = importlib.import_module(f"inference.conversion.{MODULES[kind]}")
        told = {"converted": converter.convert(kind, scratch / "artifact", scratch / "model.onnx")}
    except CannotConfine as error:
        told = {"unconfined": {"reason": str(error)}}
    except Refused as refused:
        told = {"refused": {"reason": refused.reason, "advice": refused.advice}}
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(told).encode() + b"\n")
    # Threads that a library left behind have nothing to say any more.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""A converter reads what its Python needs, writes where it is told to, and has nothing else."""

import json
import subprocess
import sys
from pathlib import Path

from inference.conversion.converter import PROJECT

SCRIPT = """
import json, os, resource, socket, sys, threading
from pathlib import Path
project, scratch, outside = map(Path, sys.argv[1:])
sys.path.insert(0, str(project))
from inference.conversion.confinement import confine

confine(
    readable=[Path(each).resolve() for each in (sys.prefix, sys.base_prefix, project / "inference", "/usr", "/lib")],
    writable=scratch, memory_bytes=2**30, cpu_seconds=30, file_bytes=2**20,
)
canary = outside / "canary"

def thread():
    running = threading.Thread(target=lambda: None)
    running.start()
    running.join()

attempts = {
    "read its own artefact": lambda: (scratch / "artifact").read_bytes(),
    "write its result": lambda: (scratch / "model.onnx").write_bytes(b"result"),
    "start a thread": thread,
    "import from its Python": lambda: __import__("wave"),
    "read another file": lambda: canary.read_bytes(),
    "list another folder": lambda: os.listdir(outside),
    "read the system's accounts": lambda: open("/etc/passwd").read(),
    "read another process's environment": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
    "write another file": lambda: canary.write_bytes(b"changed"),
    "make a file elsewhere": lambda: (outside / "new").write_bytes(b"new"),
    "remove another file": lambda: canary.unlink(),
    "write into its own Python": lambda: Path(sys.base_prefix, "lib", "new.pth").write_bytes(b""),
    "link to another file": lambda: os.link(canary, scratch / "linked"),
    "make a symbolic link": lambda: os.symlink(canary, scratch / "link"),
    "make a pipe with a name": lambda: os.mkfifo(scratch / "pipe"),
    "write a large file": lambda: (scratch / "large").write_bytes(b"x" * (2**20 + 1)),
    "open a socket": lambda: socket.socket(),
    "open a socket of the machine's": lambda: socket.socket(socket.AF_UNIX),
    "fork": lambda: os.fork() or os._exit(0),
    "run a program": lambda: os.execv("/usr/bin/true", ["true"]),
    "end its parent": lambda: os.kill(os.getppid(), 0),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30)),
    "leave for another root": lambda: os.chroot("/usr"),
    "take more memory": lambda: bytearray(2**31),
}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except (OSError, MemoryError, ValueError):
        pass
print(json.dumps({"tried": len(attempts), "done": done}))
"""


def test_it_can_do_its_work_and_nothing_else(tmp_path: Path) -> None:
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    (scratch / "artifact").write_bytes(b"artefact")
    (outside / "canary").write_bytes(b"canary")

    ended = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, PROJECT, scratch, outside],
        capture_output=True,
        check=False,
        env={},
        text=True,
    )

    told = json.loads(ended.stdout or "null")
    assert told is not None, ended.stderr
    assert told["done"] == [
        "read its own artefact",
        "write its result",
        "start a thread",
        "import from its Python",
    ]
    assert told["tried"] == 24
    assert (outside / "canary").read_bytes() == b"canary"
    assert sorted(path.name for path in outside.iterdir()) == ["canary"]

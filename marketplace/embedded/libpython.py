"""The shared library of the Python in Triton's virtual environment, against which Triton's stub is linked.

Debian's python3 comes without it. Run as a script, by that environment's Python, this brings it along where it is
missing: from Debian's own package, without root and without installing it.
"""

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

NAME = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
FILE = f"{NAME}.so.1.0"


def folders(environment: Path) -> list[Path]:
    """Where to look, in this order."""
    multiarch = Path("/usr/lib/x86_64-linux-gnu")
    configured = Path(sysconfig.get_config_var("LIBDIR"))
    return [configured, multiarch, environment / "libpython" / multiarch.relative_to("/")]


def find(environment: Path) -> Path | None:
    """The folder that holds it."""
    return next((folder for folder in folders(environment) if (folder / FILE).exists()), None)


def main() -> int:
    environment = Path(sys.prefix)
    if find(environment):
        return 0
    print(f"{FILE} is missing: taking it from Debian's package {NAME}")
    with tempfile.TemporaryDirectory() as folder:
        fetched = subprocess.run(["apt-get", "download", "-q", NAME], cwd=folder, check=False)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, environment / "libpython"], check=True)
    if fetched.returncode == 0 and find(environment):
        return 0
    print(f"Triton needs {FILE}. As root: apt-get update && apt-get install {NAME}. Then run this again.")
    return 1


if __name__ == "__main__":
    sys.exit(main())

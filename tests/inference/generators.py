"""A small language model (demo/build/babbler.py), made once, and put up as a publisher would."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from demo import llm
from demo.build import babbler
from marketplace.access import Principal


@cache
def archive() -> bytes:
    """The artefact, of the format `ensemble`."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "babbler.zip"
        babbler.build(path)
        return path.read_bytes()


def publish(publisher: Principal, name: str = "babbler") -> None:
    """Live under `<publisher>/<name>`, with plans by token; its artefact goes into settings.OBJECTS_DIR."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "babbler.zip"
        path.write_bytes(archive())
        llm.publish(publisher, path, name=name)

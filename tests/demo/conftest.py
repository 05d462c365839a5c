from pathlib import Path

import pytest

from demo.build import minilm
from tests.inference.conftest import _channels_end_with_the_event_loop, deploy, triton

__all__ = ["_channels_end_with_the_event_loop", "deploy", "minilm_archive", "triton"]


@pytest.fixture(scope="session")
def minilm_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, as it takes a second."""
    path = tmp_path_factory.mktemp("minilm") / "minilm.zip"
    minilm.build(path)
    return path

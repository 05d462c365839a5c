from pathlib import Path

import pytest

from demo.build import minilm


@pytest.fixture(scope="session")
def minilm_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, as it takes a second."""
    path = tmp_path_factory.mktemp("minilm") / "minilm.zip"
    minilm.build(path)
    return path

import shutil
from pathlib import Path

import pytest

from tests.support.bundles import TinyModel


@pytest.fixture
def folder(models: Path, tmp_path: Path, tiny: TinyModel) -> Path:
    """A bundle to spoil."""
    return Path(shutil.copytree(models / tiny.name / "1", tmp_path / tiny.name / "1"))

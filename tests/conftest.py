"""What all tests share."""

from pathlib import Path

import pytest

from tests.support.bundles import TinyModel


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds TinyModel(); not to be written to."""
    folder = tmp_path_factory.mktemp("models")
    TinyModel().write(folder)
    return folder


@pytest.fixture
def tiny() -> TinyModel:
    return TinyModel()

"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.bundles import TinyModel

settings.register_profile("fuzz", max_examples=5000, deadline=None)  # of `make fuzz`


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

"""Bundles for the service's tests, written once."""

from pathlib import Path

import pytest

from tests.support.bundles import TinyModel

TINY = TinyModel()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds TINY; not to be written to."""
    folder = tmp_path_factory.mktemp("models")
    TINY.write(folder)
    return folder


@pytest.fixture
def tiny() -> TinyModel:
    return TINY

"""A service that a test may change the models of, and a certificate for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import certificate
from tests.support.changes import put, version
from tests.support.serving import Server


@pytest.fixture
def own_models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    put(version(1), folder)
    return folder


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def server(own_models: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    flags = ("--models", str(own_models), "--workers", str(request.param))
    with Server(*flags, "--watch-s", "0.1", "--model-control") as server:
        yield server


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key."""
    return certificate(tmp_path)

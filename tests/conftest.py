"""Fixtures for all tests."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

# A hook of pytest. With several processes the one that prints knows this file, but no conftest below it.
from tests.support.survival import pytest_terminal_summary as pytest_terminal_summary

# For the same reason it imports neither ONNX nor the service.
if TYPE_CHECKING:
    from tests.support.bundles import TinyModel
    from tests.support.load import Load

# Each run draws other examples, so a few are enough in one, and a busy machine is no reason to fail.
settings.register_profile("few", max_examples=20, deadline=None)
settings.load_profile("few")
# For `make fuzz`.
settings.register_profile("fuzz", max_examples=5000, deadline=None)

# Nothing asks a public server, and to read the certificates of all authorities takes each client of httpx 40 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.path.dirname(__file__)

# In the background of a script a shell has its programs ignore Ctrl-C, and they would hand that down.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is imported stays, so to look for garbage among it, now or during the tests, is of no use.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds the tiny model, with heads; shared, so tests must not write to it."""
    from tests.support.bundles import TinyModel

    folder = tmp_path_factory.mktemp("models")
    TinyModel(heads=True).write(folder)
    return folder


@pytest.fixture(scope="session")
def acting_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a model that takes the player's own inputs."""
    from tests.support.acting import ACTING

    folder = tmp_path_factory.mktemp("acting")
    ACTING.write(folder)
    return folder


class Survived(Protocol):
    def __call__(self, fault: str, load: "Load | None" = None, *, note: str = "", **counts: int) -> None: ...


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Call it at the end of a test to add a row to the table of tests/support/survival.py: the fault that the service
    survived, and the load it was under."""

    def record(fault: str, load: "Load | None" = None, *, note: str = "", **counts: int) -> None:
        if load is not None:
            counts = {"answered": load.answered, "refused": load.refused.total(), "cut": load.cut, "lost": load.lost}
        numbers = (counts.get(name, 0) for name in ("answered", "refused", "cut", "lost"))
        record_property("survived", (fault, *numbers, note))

    return record


@pytest.fixture
def tiny() -> "TinyModel":
    from tests.support.bundles import TinyModel

    return TinyModel(heads=True)

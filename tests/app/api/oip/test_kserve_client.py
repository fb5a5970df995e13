"""KServe's own client against the service as users start it. It wants older releases of other packages than this
project does, so it has a virtual environment of its own, which `make test` creates."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.bundles import TinyModel
from tests.support.serving import ROOT, Server

CLIENTS = ROOT / ".venvs" / "clients"
ROWS = 3

pytestmark = pytest.mark.skipif(
    not [*CLIENTS.glob("lib/*/site-packages/kserve")],
    reason="needs kserve, for Python up to 3.13: make .venvs/clients/made",
)


@pytest.fixture(scope="module")
def results(models: Path) -> dict[str, Any]:
    """The client's results, by protocol and form of the tensors."""
    script, rows = ROOT / "tests" / "support" / "kserve_client.py", json.dumps(TinyModel().rows(ROWS).tolist())
    with Server("--models", str(models), "--grpc-port", "0") as server:
        (address,) = re.findall(r"gRPC on ([\d.]+:\d+)", server.log)
        command = [CLIENTS / "bin" / "python", script, server.url, address, "tiny"]
        done = subprocess.run(command, input=rows, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("way", ["rest json", "rest binary", "grpc json", "grpc binary"])
def test_the_client_gets_the_embedding_in_every_form(results: dict[str, Any], tiny: TinyModel, way: str) -> None:
    model, output, embedding = results[way]["answer"]
    assert (model, output) == ("tiny", "embedding")
    np.testing.assert_allclose(embedding, tiny.encode(tiny.rows(ROWS)), atol=1e-5)
    assert [results[way][state] for state in ("live", "ready", "model_ready")] == [True] * 3


@pytest.mark.parametrize("way", ["rest json", "rest binary", "grpc json", "grpc binary"])
def test_the_client_shows_what_was_wrong(results: dict[str, Any], way: str) -> None:
    assert "features has 9 numbers, model 'tiny' takes 10" in results[way]["refused"]


def test_binary_tensors_are_answered_by_binary_tensors(results: dict[str, Any]) -> None:
    assert results["rest json"]["content_type"] == "application/json"
    assert results["rest binary"]["content_type"] == "application/octet-stream"

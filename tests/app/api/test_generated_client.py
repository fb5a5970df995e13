"""A client that others' program makes from /openapi.json against the service as users start it; both run in the virtual
environment that `make test` creates for clients."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import ROOT, Server

PYTHON = ROOT / ".venvs" / "clients" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not [*PYTHON.parents[1].glob("lib/*/site-packages/openapi_python_client")],
    reason="needs openapi-python-client: make .venvs/clients/made",
)


def run(*command: str | Path) -> str:
    done = subprocess.run([PYTHON, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_gets_an_answer_to_every_example(models: Path, tmp_path: Path) -> None:
    with Server("--models", str(models)) as server:
        # Without a formatter to run over what it wrote.
        (tmp_path / "config.yml").write_text("post_hooks: []")
        run("-m", "openapi_python_client", "generate", "--url", f"{server.url}/openapi.json",
            "--output-path", tmp_path / "made", "--config", tmp_path / "config.yml", "--fail-on-warning")  # fmt: skip
        script = ROOT / "tests" / "support" / "generated_client.py"
        answers = json.loads(run(script, tmp_path / "made", server.url))
    assert answers == {
        "/models": [[200, "ModelList"]],
        "/embed": [[200, "EmbedAnswer"]] * 2,
        "/forecast": [[200, "ForecastAnswer"]] * 3,
        "/predict": [[200, "PredictAnswer"]] * 2,
        "/loss": [[200, "LossAnswer"]] * 2,
    }

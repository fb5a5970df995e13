"""Clients that others' programs make from /openapi.json against the service as users start it; the programs are in the
virtual environment that `make test` creates for clients."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.serving import ROOT, Server

CLIENTS = ROOT / ".venvs" / "clients"
PYTHON = CLIENTS / "bin" / "python"
TSC = CLIENTS / "node_modules" / "typescript" / "bin" / "tsc"
SUPPORT = ROOT / "tests" / "support"
# Java starts faster without its optimising compiler.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# The parts of the client that are called, without its documents.
PARTS = "apis=Inference:Models,models,supportingFiles,apiDocs=false,modelDocs=false"


def installed(module: str) -> Path | None:
    return next(CLIENTS.glob(f"lib/*/site-packages/{module}"), None)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "1") as running:
        yield running


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    installed("openapi_python_client") is None, reason="needs openapi-python-client: make .venvs/clients/made"
)
def test_a_generated_client_gets_an_answer_to_every_example(server: Server, tmp_path: Path) -> None:
    # Without a formatter to run over what it wrote.
    (tmp_path / "config.yml").write_text("post_hooks: []")
    run(PYTHON, "-m", "openapi_python_client", "generate", "--url", f"{server.url}/openapi.json",
        "--output-path", tmp_path / "made", "--config", tmp_path / "config.yml", "--fail-on-warning")  # fmt: skip
    answers = json.loads(run(PYTHON, SUPPORT / "generated_client.py", tmp_path / "made", server.url))
    assert answers == {
        "/models": [[200, "ModelList"]],
        "/embed": [[200, "EmbedAnswer"]] * 2,
        "/forecast": [[200, "ForecastAnswer"]] * 3,
        "/predict": [[200, "PredictAnswer"]] * 2,
        "/loss": [[200, "LossAnswer"]] * 2,
    }


@pytest.mark.skipif(
    installed("openapi_generator_cli") is None or not TSC.exists() or not all(map(shutil.which, ("java", "node"))),
    reason="needs openapi-generator and TypeScript: install Java, Node and npm, then make .venvs/clients/made",
)
def test_a_client_generated_in_typescript_gets_an_answer_to_every_example(server: Server, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{server.url}/openapi.json").content)
    generator = installed("openapi_generator_cli/openapi-generator.jar")
    assert generator is not None
    run(*JAVA, "-jar", generator, "generate", "-g", "typescript-fetch", "-i", document, "-o", tmp_path / "made",
        "--global-property", PARTS)  # fmt: skip
    shutil.copy(SUPPORT / "generated_client.ts", tmp_path)
    run("node", TSC, "--strict", "--skipLibCheck", "--target", "es2022", "--module", "commonjs",
        tmp_path / "generated_client.ts")  # fmt: skip
    answers = json.loads(run("node", tmp_path / "generated_client.js", server.url))
    assert answers == {
        "/models": [[200, 1]],
        "/embed": [[200, 1]] * 2,
        "/predict": [[200, 1]] * 2,
        "/loss": [[200, 1]] * 2,
        "/forecast": [[200, 1]] * 3,
    }

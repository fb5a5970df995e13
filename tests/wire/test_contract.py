"""The service does what /openapi.json says, whatever is sent: Schemathesis makes requests of it, valid ones and wrong
ones, and checks status, headers and body of each answer against it."""

import subprocess
import sys
from pathlib import Path

from hypothesis import settings

from tests.support.serving import Server

CONFIG = """
# A deadline of 0 ms has passed.
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", 504]

# Once the model is unloaded, every answer is 503; and a stream is no HTTP, every answer is 426.
[[operations]]
include-path-regex = "/(unload|stream)$"
enabled = false
"""


def test_every_answer_is_one_that_the_document_describes(models: Path, tmp_path: Path) -> None:
    examples = settings().max_examples // 10
    seed = [] if examples > 5 else ["--seed", "1"]  # a short run finds the same each time; `make fuzz` looks further
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with Server("--models", str(models), "--workers", "1", "--model-control") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        # The document does not know how wide a model's rows are, so the service may refuse what it allows.
        checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure"]
        checks += ["--phases", "coverage,fuzzing"]
        done = subprocess.run(
            [*command, *checks, "--max-examples", str(examples), *seed],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout

"""Training imports nothing of the service, and nothing that only the service needs."""

import json

from tests.support.forker import LEARNING, TRAINING, run_forked

NOT_FOR_LEARNING = {
    "app",
    "cli",
    "jepa_client",
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic_settings",
    "httpx",
}
NOT_FOR_LEARNING |= {"typer"}


def test_learning_works_where_the_service_is_not_installed():
    """In a process that has imported it and nothing else."""
    program = f"import json; from tests.support.forker import LOADED; print(json.dumps([*LOADED[{LEARNING[-1]!r}]]))"
    done = run_forked(program, imported=TRAINING)
    loaded = {*json.loads(done.stdout)}
    assert {"model", "torch", "onnx", "sklearn"} <= loaded
    assert not loaded & NOT_FOR_LEARNING

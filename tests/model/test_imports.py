import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {path.stem: path for path in (ROOT / "model").glob("*.py") if path.name != "__init__.py"}

# A module may import those to its right, or of its own rank, never to its left.
RANKS = [
    {"edifice", "evaluation", "export", "training"},
    {"gradients", "served"},
    {"batches", "checks", "checkpoint", "objective", "splits"},
    {"data", "recipe", "jepa", "served_inputs"},
    {"anchor", "encoder", "predictor", "encoding", "symmetry"},
    {"bundle", "config", "devices", "diagnostics", "layers", "masking", "quantise", "schedules"},
    {"dropout"},
    {"schema"},
]
RANK_OF = {name: rank for rank, names in enumerate(RANKS) for name in names}
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


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_its_rank():
    assert RANK_OF.keys() == MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way_and_know_nothing_of_http(module):
    for name in imported(MODULES[module]):
        package, _, rest = name.partition(".")
        assert package not in NOT_FOR_LEARNING
        if package == "model" and rest in RANK_OF:
            assert RANK_OF[rest] >= RANK_OF[module], f"{module} imports {rest}, which comes before it"


def test_learning_works_where_the_service_is_not_installed():
    program = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_FOR_LEARNING!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocked())
import model.evaluation, model.export, model.training
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

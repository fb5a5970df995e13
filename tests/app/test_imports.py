import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"

# From the bytes inwards: a module may import those to its right, or of its own rank, never to its left.
RANKS = [
    {"main"},
    {"middleware"},
    {"grpc_server", "protocol"},
    {"routes.grpc", "routes.native", "routes.v2", "routes.health", "routes.repository", "routes.stream"},
    {"routes.endpoint", "routes.inference"},
    {"routes.exchange"},
    {"cards", "routes.reading"},
    {"documentation", "service", "signatures", "statistics"},
    {"tensors"},
    {"schemas", "schemas_v2", "telemetry", "watcher"},
    {"registry"},
    {"loading"},
    {"precision"},
    {"engine", "golden", "wire"},
    {"batcher", "drift", "sessions"},
    {"batch"},
    {"keys", "memory"},
    {"threads"},
    {"logs", "tracing"},
    {"board", "bundle", "errors", "ledger", "pace", "settings", "streams"},
    {"arrays", "caller", "messages"},
]
NOT_FOR_SERVING = (
    "torch",
    "lightning_fabric",
    "model",
    "onnx",
    "onnxscript",
    "pyarrow",
    "sklearn",
    "matplotlib",
    "rich",
    "cli",
    "jepa_client",
)
OF_EXTRAS = ("grpc", "google")


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(APP).with_suffix("").parts): path
        for path in APP.rglob("*.py")
        if path.name != "__init__.py"
    }


def imports(path: Path) -> set[str]:
    """Absolute names, `from a import b` counting as both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_rank() -> None:
    assert set().union(*RANKS) == modules().keys()


@pytest.mark.parametrize("module", modules())
def test_imports_run_inwards_only(module: str) -> None:
    rank_of = {name: i for i, names in enumerate(RANKS) for name in names}
    for name in imports(modules()[module]):
        imported = name.removeprefix("app.")
        if name.startswith("app.") and imported in rank_of:
            assert rank_of[imported] >= rank_of[module], f"{module} imports {imported}, which comes before it"


@pytest.mark.parametrize("module", modules())
def test_nothing_of_training_is_imported(module: str) -> None:
    for name in imports(modules()[module]):
        assert name.split(".")[0] not in NOT_FOR_SERVING


def test_the_service_starts_where_only_its_own_dependencies_are_installed() -> None:
    program = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {(*NOT_FOR_SERVING, *OF_EXTRAS)!r} or name == "opentelemetry.sdk":
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocked())
from app.main import create_app
create_app()
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_importing_the_service_does_nothing() -> None:
    program = "import threading, app.main, app.settings; print(threading.active_count())"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"

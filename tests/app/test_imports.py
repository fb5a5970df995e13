import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
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


def test_a_service_reads_what_is_set_before_numpy_and_onnx_runtime_are_imported() -> None:
    """Both read their variables on import: OpenBLAS would start threads, and ONNX Runtime its telemetry."""
    program = "import sys, cli.serve; print({'numpy', 'onnxruntime'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"

"""The client is installed alone: it imports httpx, NumPy and itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client" / "jepa_client"
INSTALLED = {"httpx", "numpy"}
EXTRAS = {
    "games.gymnasium": {"gymnasium"},
    "games.atari": {"gymnasium", "ale_py"},
    "games.slippi": {"peppi_py"},
    "stream": {"websockets"},
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(CLIENT).with_suffix("").parts): path
        for path in CLIENT.rglob("*.py")
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


@pytest.mark.parametrize("module", modules())
def test_it_imports_nothing_but_what_its_installation_brings(module: str) -> None:
    for name in imports(modules()[module]):
        known = INSTALLED | EXTRAS.get(module, set()) | {"jepa_client"} | sys.stdlib_module_names
        assert name.partition(".")[0] in known, f"{module} imports {name}"


def test_the_package_exports_what_it_imports() -> None:
    tree = ast.parse((CLIENT / "__init__.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    import jepa_client

    assert set(jepa_client.__all__) == imported


def test_it_works_where_only_its_own_folder_is() -> None:
    program = "import sys, jepa_client; print(sorted({'app', 'model', 'cli', 'torch', 'pydantic'} & {*sys.modules}))"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(CLIENT.parent)!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr

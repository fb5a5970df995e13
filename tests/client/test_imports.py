"""The client is installed alone: it imports httpx, NumPy and itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.test_imports import imports

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client" / "jepa_client"
# A module may import those below it, or of its own rank.
RANKS = [
    {"games.atari", "games.gymnasium", "games.melee", "games.slippi"},
    {"games.melee_layout", "games.replay"},
    {"client"},
    {"stream"},
    {"frames", "tries"},
    {"calls", "service"},
    {"errors", "rows"},
]
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


def test_every_module_has_its_rank() -> None:
    assert set().union(*RANKS) == modules().keys()


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way_and_to_nothing_of_the_service(module: str) -> None:
    rank_of = {name: i for i, names in enumerate(RANKS) for name in names}
    for name in imports(modules()[module]):
        root, _, imported = name.partition(".")
        known = INSTALLED | EXTRAS.get(module, set()) | {"jepa_client"} | sys.stdlib_module_names
        assert root in known, f"{module} imports {name}"
        if root == "jepa_client" and imported in rank_of:
            assert rank_of[imported] >= rank_of[module], f"{module} imports {imported}, which comes before it"


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

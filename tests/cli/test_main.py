import subprocess
import sys

import pytest

from cli.main import COMMANDS
from tests.support.serving import ROOT


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_the_commands_and_imports_what_none_of_them_needs() -> None:
    result = run(
        "import sys\nfrom cli.main import main\nsys.argv = ['jepa', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'fastapi', 'onnxruntime', 'numpy', 'pydantic_settings', 'uvicorn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    assert result.returncode == 0, result.stderr
    for name, summary in COMMANDS.items():
        assert name in result.stdout
        assert summary in result.stdout


def test_a_misspelt_command_names_the_nearest() -> None:
    result = run("import sys\nfrom cli.main import main\nsys.argv = ['jepa', 'serv']\nmain()")
    assert result.returncode == 2
    assert "serve" in result.stderr


@pytest.mark.parametrize(
    ("command", "package", "source"),
    [("serve", "uvicorn", "jepa-serve"), ("bench", "httpx", "jepa-serve"), ("train", "torch", "'jepa-serve[train]'")],
)
def test_a_command_whose_packages_are_missing_says_how_to_install_them(command: str, package: str, source: str) -> None:
    blocked = f"import sys\nsys.modules['{package}'] = None\n"
    result = run(f"{blocked}from cli.main import main\nsys.argv = ['jepa', '{command}']\nmain()")
    assert result.returncode == 1
    assert result.stderr.strip().endswith(f"jepa {command} needs {package}; install it with: pip install {source}")

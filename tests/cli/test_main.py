import subprocess
import sys

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


def test_a_command_whose_packages_are_missing_says_how_to_install_them() -> None:
    result = run(
        "import sys\nsys.modules['uvicorn'] = None\nfrom cli.main import main\nsys.argv = ['jepa', 'serve']\nmain()"
    )
    assert result.returncode == 1
    assert "jepa serve needs uvicorn; install it with: pip install 'jepa-serve[train]'" in result.stderr

import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest

from cli.commands import COMMANDS, DATA_COMMANDS, TOPICS
from cli.main import load
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
    for topic in TOPICS:
        assert f"{topic}:" in result.stdout
    for name, command in COMMANDS.items():
        assert f"  {name}  " in result.stdout
        assert command.summary in result.stdout


NAMES = [*[(name,) for name in COMMANDS if name != "data"], *[("data", name) for name in DATA_COMMANDS]]


@pytest.mark.parametrize("names", NAMES)
def test_the_help_of_a_command_shows_examples_with_options_that_it_has(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command = load(*names)
    command.main(["-h"], standalone_mode=False)
    shown = capsys.readouterr().out
    options = {option for parameter in command.params for option in parameter.opts}
    for example in (DATA_COMMANDS if len(names) > 1 else COMMANDS)[names[-1]].examples:
        assert f"  {example}\n" in shown
        words = shlex.split(example)
        assert words[: len(names) + 1] == ["jepa", *names]
        assert {word for word in words if word.startswith("-")} <= options


def test_the_version_is_that_of_the_package() -> None:
    result = run("import sys\nfrom cli.main import main\nsys.argv = ['jepa', '--version']\nmain()")
    assert (result.returncode, result.stdout) == (0, f"jepa-serve {version('jepa-serve')}\n")


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

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
    [("serve", "uvicorn", "."), ("bench", "httpx", "."), ("train", "torch", "'.[train]'")],
)
def test_a_command_whose_packages_are_missing_says_how_to_install_them(command: str, package: str, source: str) -> None:
    blocked = f"import sys\nsys.modules['{package}'] = None\n"
    result = run(f"{blocked}from cli.main import main\nsys.argv = ['jepa', '{command}']\nmain()")
    assert result.returncode == 1
    mend = f"install it with: pip install -c constraints.txt -e {source}, in the folder that jepa-serve was cloned into"
    assert result.stderr.strip().endswith(f"jepa {command} needs {package}; {mend}")


# Whatever is installed but for Typer, NumPy, and pydantic, whose models of settings are flags.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

kept = {"typer", "click", "shellingham", "numpy", "annotated_doc", "annotated_types", "dotenv", "typing_extensions"}
kept |= {"typing_inspection", "pydantic", "pydantic_core", "pydantic_settings", "cli", "app", "bundle", "model"}
gone = packages_distributions().keys() - kept - sys.modules.keys()

class Few:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in gone else PathFinder.find_spec(name, path, target)

sys.meta_path = [Few if finder is PathFinder else finder for finder in sys.meta_path]
"""


# Each in a fork, where nothing of the project that the others imported is left.
HELP_OF_EACH = f"""{WITHOUT}
import os
import numpy, pydantic_settings, typer
from cli.main import main

for names in {{names}}:
    if not os.fork():
        sys.argv = ["jepa", *names, "-h"]
        main()
    assert os.wait()[1] == 0, names
"""


def test_help_needs_nothing_that_the_command_needs(capfd: pytest.CaptureFixture[str]) -> None:
    result = run(HELP_OF_EACH.replace("{names}", repr(NAMES)))
    assert (result.returncode, result.stderr) == (0, "")
    for names in NAMES:
        load(*names).main(["-h"], prog_name=f"jepa {' '.join(names)}", standalone_mode=False)
    assert result.stdout == capfd.readouterr().out


def test_what_only_looks_like_help_runs_nothing() -> None:
    result = run(f"{WITHOUT}from cli.main import main\nsys.argv = ['jepa', 'train', 'x', '--name', '-h']\nmain()")
    assert result.returncode == 1
    assert "jepa train needs" in result.stderr

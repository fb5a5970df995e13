"""The `jepa` program. Each subcommand is a function in a module of its own, which is imported only when it runs."""

import gc
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.failures import EXPECTED, sentence

COMMANDS = {
    "serve": "Serve models to bots over HTTP.",
    "data": "Create training frames from replays, or by playing a game.",
    "train": "Train on recorded games and export a bundle to serve.",
    "export": "Export a training checkpoint as a bundle.",
    "import-edifice": "Import the weights of Edifice's JEPA (Elixir) as a bundle.",
    "embed": "Embed a data set with the service's inference engine.",
    "eval": "Compare embeddings with raw features and PCA by probing.",
    "report": "Plot a bundle's training and one game on a page.",
    "bench": "Load-test a running service.",
    "inspect": "Show what a bundle contains, and check it.",
}
DATA_COMMANDS = {
    "melee": "Convert Melee replays (.slp) to frames.",
    "atari": "Record the memory of an Atari game played at random.",
}
# The modules of commands that do not live in `cli/<name>.py`.
MODULES = {
    ("bench",): "cli.bench.bench",
    ("report",): "cli.report.report",
    ("data", "melee"): "cli.data.melee",
    ("data", "atari"): "cli.data.atari",
}
# Commands that need no PyTorch, only what the service itself is installed with.
SERVING_COMMANDS = {"serve", "bench", "inspect"}
# Packages that are installed with the client rather than with the service; see client/pyproject.toml.
CLIENT_PACKAGES = {"jepa_client", "peppi_py", "ale_py", "gymnasium"}
# The extra of the client that a command needs.
CLIENT_EXTRAS = {"melee": "slippi", "atari": "atari"}


class _LazyGroup(TyperGroup):
    """Lists commands without importing their modules, some of which import PyTorch."""

    within: tuple[str, ...] = ()
    summaries = COMMANDS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, summary in self.summaries.items():
            self.add_command(TyperCommand(name=name, help=summary))

    def list_commands(self, _: Any) -> list[str]:
        return [*self.summaries]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(*self.within, str(name)), rest


class _DataGroup(_LazyGroup):
    within = ("data",)
    summaries = DATA_COMMANDS


def load(*names: str) -> Any:
    """Imports the command with this name, such as load("data", "melee")."""
    if names == ("data",):
        return _DataGroup(name="data", help=COMMANDS["data"], no_args_is_help=True, rich_markup_mode=None)
    function = names[-1].replace("-", "_")
    # Imports leave little garbage, and to look for it among all that PyTorch keeps takes a fifth of their time.
    gc.disable()
    try:
        command = getattr(import_module(MODULES.get(names, f"cli.{function}")), function)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("cli", "app", "bundle", "model"):
            raise
        if package in CLIENT_PACKAGES:
            source = f"'./client[{CLIENT_EXTRAS[names[-1]]}]'"
        else:
            source = "jepa-serve" if names[-1] in SERVING_COMMANDS else "'jepa-serve[train]'"
        typer.echo(f"jepa {' '.join(names)} needs {package}; install it with: pip install {source}", err=True)
        raise typer.Exit(1) from None
    finally:
        gc.enable()
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(names[-1])(_telling(command))
    return typer.main.get_command(single)


def _telling(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which prints an expected error on a line and exits with status 1."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except BrokenPipeError:
            # Whoever reads the output has seen enough, as `head` has. Click ends the program quietly.
            raise
        except EXPECTED as error:
            typer.echo(f"error: {sentence(error)}", err=True)
            raise typer.Exit(1) from None

    return run


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def jepa() -> None:
    """Learn a representation of a game's state from replays, and serve it to bots."""


def main() -> None:
    """Runs the command line of this process."""
    app()

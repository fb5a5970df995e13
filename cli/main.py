"""`jepa`: each subcommand is a function in a module of its own, imported only when it runs."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "serve": "Answer bots over HTTP.",
    "data": "Make frames to learn from, of replays or by playing.",
    "train": "Learn from recorded games and leave a bundle to serve.",
    "export": "Make a bundle from a training checkpoint.",
    "import-edifice": "Make a bundle from weights of Edifice's JEPA (Elixir).",
    "embed": "Turn a data set into embeddings, by the service's engine.",
    "eval": "Compare embeddings with raw features and PCA by probes.",
    "report": "Draw how a bundle learned and what it makes of a game.",
    "bench": "Load a running service and say what it bears.",
    "inspect": "Say what is in a bundle, and check it.",
}


DATA_COMMANDS = {
    "melee": "Turn Melee replays (.slp) into frames.",
    "atari": "Record the memory of an Atari game that is played at random.",
}
# Where a command is not the function `name` of `cli/name.py`.
MODULES = {
    ("bench",): "cli.bench.bench",
    ("report",): "cli.report.report",
    ("data", "melee"): "cli.data.melee",
    ("data", "atari"): "cli.data.atari",
}
# What is not installed with the rest: see client/pyproject.toml.
CLIENT, EXTRAS = {"jepa_client", "peppi_py", "ale_py", "gymnasium"}, {"melee": "slippi", "atari": "atari"}


class _LazyGroup(TyperGroup):
    """Lists the commands without importing what they need, which for some is PyTorch."""

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
    """The command of these words, such as "data", "melee"."""
    if names == ("data",):
        return _DataGroup(name="data", help=COMMANDS["data"], no_args_is_help=True, rich_markup_mode=None)
    function = names[-1].replace("-", "_")
    try:
        command = getattr(import_module(MODULES.get(names, f"cli.{function}")), function)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("cli", "app", "model"):
            raise
        source = f"'./client[{EXTRAS[names[-1]]}]'" if package in CLIENT else "'jepa-serve[train]'"
        typer.echo(f"jepa {' '.join(names)} needs {package}; install it with: pip install {source}", err=True)
        raise typer.Exit(1) from None
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(names[-1])(command)
    return typer.main.get_command(single)


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def jepa() -> None:
    """Learns a representation of a game's state from replays, and serves it to bots."""


def main() -> None:
    app()

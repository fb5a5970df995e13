"""`jepa`: each subcommand is the function of the same name (a - read as _) in `cli/`, imported only when it runs."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "serve": "Answer bots over HTTP.",
    "train": "Learn from recorded games and leave a bundle to serve.",
    "export": "Make a bundle from a training checkpoint.",
    "import-edifice": "Make a bundle from weights of Edifice's JEPA (Elixir).",
    "embed": "Turn a data set into embeddings, by the service's engine.",
    "eval": "Compare embeddings with raw features and PCA by probes.",
    "report": "Draw how a bundle learned and what it makes of a game.",
    "bench": "Load a running service and say what it bears.",
    "inspect": "Say what is in a bundle, and check it.",
}


class _LazyGroup(TyperGroup):
    """Lists the commands without importing what they need, which for some is PyTorch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, summary in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=summary))

    def list_commands(self, _: Any) -> list[str]:
        return [*COMMANDS]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(str(name)), rest


def _load(name: str) -> Any:
    module = name.replace("-", "_")
    try:
        function = getattr(import_module(f"cli.{module}"), module)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("cli", "app", "model")):
            raise
        typer.echo(f"jepa {name} needs {error.name}; install it with: pip install 'jepa-serve[train]'", err=True)
        raise typer.Exit(1) from None
    command = typer.Typer(add_completion=False, rich_markup_mode=None)
    command.command(name)(function)
    return typer.main.get_command(command)


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def jepa() -> None:
    """Learns a representation of a game's state from replays, and serves it to bots."""


def main() -> None:
    app()

"""The `jepa` program. Each subcommand is a function in a module of its own, which is imported only when it runs."""

import gc
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from bundle.install import how_to_install
from cli.commands import COMMANDS, DATA_COMMANDS, TOPICS, Command
from cli.failures import EXPECTED, sentence
from cli.placeholders import placeholders

# The modules of commands that do not live in `cli/<name>.py`.
MODULES = {
    ("bench",): "cli.bench.bench",
    ("report",): "cli.report.report",
    ("data", "melee"): "cli.data.melee",
    ("data", "atari"): "cli.data.atari",
}
HELP = {"help_option_names": ["-h", "--help"]}
HELP_OPTIONS = frozenset(HELP["help_option_names"])
# The packages of this project itself.
OURS = frozenset(("cli", "app", "bundle", "model"))
# Commands that need no PyTorch, only what the service itself is installed with.
SERVING_COMMANDS = {"serve", "bench", "inspect"}
# Packages that are installed with the client rather than with the service; see client/pyproject.toml.
CLIENT_PACKAGES = {"jepa_client", "peppi_py", "ale_py", "gymnasium"}
# The extra of the client that a command needs.
CLIENT_EXTRAS = {"melee": "slippi", "atari": "atari"}


class _LazyGroup(TyperGroup):
    """Lists commands without importing their modules, some of which import PyTorch."""

    within: tuple[str, ...] = ()
    topics: ClassVar[Mapping[str, Mapping[str, Command]]] = TOPICS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for commands in self.topics.values():
            for name, command in commands.items():
                self.add_command(TyperCommand(name=name, help=command.summary))

    def list_commands(self, _: Any) -> list[str]:
        return [name for commands in self.topics.values() for name in commands]

    def format_commands(self, _: Any, formatter: Any) -> None:
        for topic, commands in self.topics.items():
            with formatter.section(topic):
                formatter.write_dl([(name, command.summary) for name, command in commands.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(*self.within, str(name), for_help=not HELP_OPTIONS.isdisjoint(rest)), rest


class _DataGroup(_LazyGroup):
    within = ("data",)
    topics: ClassVar = {"Games": DATA_COMMANDS}


def load(*names: str, for_help: bool = False) -> Any:
    """Imports the command with this name, such as load("data", "melee"); `for_help` without what it needs."""
    if names == ("data",):
        options = {"no_args_is_help": True, "context_settings": HELP, "rich_markup_mode": None}
        return _DataGroup(name="data", help=COMMANDS["data"].summary, **options)
    # Imports leave little garbage, and to look for it among all that PyTorch keeps takes a fifth of their time.
    gc.disable()
    try:
        command = _imported(names)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        if not for_help:
            _stop_for(package, names)
        with placeholders(OURS):
            # Only its options are wanted, unless what asks for help is the value of one of them.
            command = wraps(_imported(names))(lambda *_, **__: _stop_for(package, names))
    finally:
        gc.enable()
    single = typer.Typer(add_completion=False, context_settings=HELP, rich_markup_mode=None)
    known = DATA_COMMANDS if len(names) > 1 else COMMANDS
    single.command(names[-1], epilog=known[names[-1]].epilog)(_telling(command))
    return typer.main.get_command(single)


def _imported(names: tuple[str, ...]) -> Callable[..., None]:
    function = names[-1].replace("-", "_")
    command: Callable[..., None] = getattr(import_module(MODULES.get(names, f"cli.{function}")), function)
    return command


def _stop_for(package: str, names: tuple[str, ...]) -> NoReturn:
    """Ends with the command that installs the package."""
    if package in CLIENT_PACKAGES:
        mend = how_to_install(client=CLIENT_EXTRAS[names[-1]])
    else:
        mend = how_to_install("" if names[-1] in SERVING_COMMANDS else "train")
    typer.echo(f"jepa {' '.join(names)} needs {package}; {mend}", err=True)
    raise typer.Exit(1) from None


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


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    context_settings=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        # Of no use to other commands, and half of what this module takes to import.
        from importlib import metadata

        typer.echo(f"jepa-serve {metadata.version('jepa-serve')}")
        raise typer.Exit


@app.callback()
def jepa(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """Learn a representation of a game's state from replays, and serve it to bots."""


def main() -> None:
    """Runs the command line of this process."""
    app()

"""`jepa serve`: starts the service; every field of `app.settings.Settings` is a flag."""

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.server.run import CannotStart, run
from app.settings import PREFIX, Settings


def serve(**flags: Any) -> None:
    """Serve the models of a folder, or the bundled model, to bots over HTTP."""
    try:
        # A flag is empty where a script's variable was: as unset as an empty JEPA_ variable is. An empty host would
        # mean every interface.
        settings = Settings(**{name: value for name, value in flags.items() if value not in (None, "")})
    except ValidationError as error:
        _stop("\n".join(_readable(each) for each in error.errors()))
    try:
        run(settings)
    except CannotStart as error:
        _stop(str(error))


def _flags() -> Iterator[inspect.Parameter]:
    """Yields a flag for each setting; a flag that is not given stays None, so that environment and default apply."""
    for name, field in Settings.model_fields.items():
        default = str(field.default) if isinstance(field.default, str | int) else False
        option = typer.Option(help=field.description, envvar=PREFIX + name.upper(), show_default=default)
        annotation = Annotated[field.annotation | None, option]  # type: ignore[name-defined]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


# Typer reads the flags from the signature and their types from the annotations.
_PARAMETERS = [*_flags()]
serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
serve.__annotations__ = {parameter.name: parameter.annotation for parameter in _PARAMETERS}


def _readable(error: ErrorDetails) -> str:
    """The name of the setting and what is wrong with it, without pydantic's prefix."""
    setting = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    return f"{setting}: {message}" if setting else message


def _stop(message: str) -> NoReturn:
    typer.echo(f"jepa serve: {message}", err=True)
    raise typer.Exit(1)

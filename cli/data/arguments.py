"""Options that several commands of `jepa data` share."""

from typing import Annotated

import typer

JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that work side by side (default: one a core); the result is equal")
]

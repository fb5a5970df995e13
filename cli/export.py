"""`jepa export`: exports a checkpoint of `jepa train` as a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from bundle.folders import check_name
from cli.arguments import ModelsOption, NameOption
from model.export.bundle import export_bundle
from model.training.checkpoint import load_checkpoint


def export(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors file of jepa train")],
    out: ModelsOption,
    name: NameOption = "model",
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16")] = False,
    card: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Model card to include")] = None,
) -> None:
    """Export a training checkpoint as a bundle."""
    try:
        check_name(name)
        text = None if card is None else card.read_text()
        folder = export_bundle(load_checkpoint(checkpoint), out, name, half=half, card=text)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{folder} is ready: jepa serve --models {out}")

"""`jepa export`: exports a checkpoint of `jepa train` as a bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bundle.folders import check_name
from cli.arguments import ModelsOption, NameOption
from cli.files import check_file, check_folder
from model.export.bundle import export_bundle
from model.export.card import model_card
from model.training.checkpoint import load_checkpoint
from model.training.progress import waiting


def export(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors file of jepa train")],
    out: ModelsOption,
    name: NameOption = "model",
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16")] = False,
    card: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Model card to include (default: one is written)")
    ] = None,
) -> None:
    """Export a training checkpoint as a bundle."""
    check_name(name)
    check_folder(out / name)
    text = None if card is None else _text(card)
    loaded = load_checkpoint(checkpoint)
    with waiting(Console(highlight=False, soft_wrap=True), f"exporting to {out / name}"):
        folder = export_bundle(loaded, out, name, half=half, card=model_card(loaded, name) if text is None else text)
    typer.echo(f"{folder} is ready: jepa serve --models {out}")


def _text(card: Path) -> str:
    check_file(card)
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{card} is no text in UTF-8 ({error}); a model card is Markdown") from None

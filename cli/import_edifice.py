"""`jepa import-edifice`: a bundle from the parameters of Edifice, the Elixir reference library."""

from pathlib import Path
from typing import Annotated

import typer

from bundle.folders import check_name
from bundle.schema import read_description
from model.export.bundle import export_networks
from model.export.edifice import convert, read_parameters


def import_edifice(
    encoder: Annotated[Path, typer.Argument(help="The context encoder's parameters, .safetensors")],
    predictor: Annotated[Path, typer.Argument(help="The predictor's parameters, .safetensors")],
    out: Annotated[Path, typer.Option(help="Folder of models; the bundle becomes OUT/NAME/VERSION")],
    name: Annotated[str, typer.Option(help="Name of the model")] = "edifice",
    schema: Annotated[Path | None, typer.Option(help="A schema.json with names and groups of the columns")] = None,
) -> None:
    """Make a bundle from weights of Edifice's JEPA (Elixir)."""
    try:
        check_name(name)
        about = {} if schema is None else read_description(schema)
        networks, columns = convert(read_parameters(encoder), read_parameters(predictor), about)
        found = networks.context_encoder.config
        typer.echo(
            f"found an encoder from {found.input_dim} columns to {found.embed_dim} with {found.encoder_depth} blocks, "
            f"and a predictor of width {found.predictor_embed_dim} with {found.predictor_depth}; writing ONNX graphs …"
        )
        known = {"training": {"imported_from": f"Edifice's JEPA: {encoder.name}, {predictor.name}"}}
        folder = export_networks(networks, columns, known, out, name)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{folder} is ready: jepa serve --models {out}")

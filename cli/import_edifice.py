"""`jepa import-edifice`: imports parameters saved by Edifice, the Elixir reference library, as a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from bundle.folders import check_name
from bundle.schema import read_description
from cli.arguments import ModelsOption, NameOption
from cli.files import check_file, check_folder
from model.export.bundle import export_networks
from model.export.edifice import convert, read_parameters


def import_edifice(
    encoder: Annotated[Path, typer.Argument(help="Parameters of the context encoder (.safetensors)")],
    predictor: Annotated[Path, typer.Argument(help="Parameters of the predictor (.safetensors)")],
    out: ModelsOption,
    name: NameOption = "edifice",
    schema: Annotated[Path | None, typer.Option(help="A schema.json with the names and groups of the columns")] = None,
) -> None:
    """Import the weights of Edifice's JEPA (Elixir) as a bundle."""
    check_name(name)
    check_folder(out / name)
    for path in (encoder, predictor, *([] if schema is None else [schema])):
        check_file(path)
    about = {} if schema is None else read_description(schema)
    networks, columns = convert(read_parameters(encoder), read_parameters(predictor), about)
    found = networks.context_encoder.config
    typer.echo(
        f"found an encoder from {found.input_dim} columns to {found.embed_dim} with {found.encoder_depth} blocks, "
        f"and a predictor of width {found.predictor_embed_dim} with {found.predictor_depth}; writing ONNX graphs …"
    )
    known = {"training": {"imported_from": f"Edifice's JEPA: {encoder.name}, {predictor.name}"}}
    folder = export_networks(networks, columns, known, out, name)
    typer.echo(f"{folder} is ready: jepa serve --models {out}")

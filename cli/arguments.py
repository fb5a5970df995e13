"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

BundleArgument = Annotated[
    str, typer.Argument(help="Version folder, model folder (its highest version) or 'default' (the bundled model)")
]
DATA_HELP = "Files, folders or globs of them: Parquet, CSV, Arrow, HDF5, .npy or .npz"
DataArgument = Annotated[list[str], typer.Argument(help=DATA_HELP)]
FeaturesOption = Annotated[
    list[str] | None, typer.Option(help="Name pattern of the feature columns, such as 'ram_*'; may be repeated")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(help="Name pattern of columns to leave out, such as 'debug_*'; may be repeated")
]
LabelsOption = Annotated[
    list[str] | None, typer.Option(help="Name pattern of label columns (default: y_*); may be repeated")
]
ActionsOption = Annotated[
    list[str] | None, typer.Option(help="Name pattern of the player's own inputs (default: action*); may be repeated")
]
EpisodeOption = Annotated[str | None, typer.Option(help="Column that tells games apart, of any type")]
FrameOption = Annotated[str | None, typer.Option(help="Column that counts the frames of a game")]
MissingOption = Annotated[
    Literal["refuse", "hide", "drop", "mean"] | None,
    typer.Option(
        help="Where a number is missing: refuse the data (the default), hide its group in that row, drop the row, or "
        "put the column's mean there, which is that of the training where a bundle is used"
    ),
]
ModelsOption = Annotated[Path, typer.Option(help="Folder of models; the bundle is written to OUT/NAME/VERSION")]
NameOption = Annotated[str, typer.Option(help="Name of the model")]

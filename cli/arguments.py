"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    str, typer.Argument(help="Version folder, model folder (its highest version) or 'default' (the bundled model)")
]
DataArgument = Annotated[str, typer.Argument(help="Parquet file, folder or glob of Parquet files, or .npy/.npz file")]
FeaturesOption = Annotated[str | None, typer.Option(help="Name pattern of the feature columns, such as 'ram_*'")]
LabelsOption = Annotated[list[str] | None, typer.Option(help="Name patterns of label columns (default: y_*)")]
ModelsOption = Annotated[Path, typer.Option(help="Folder of models; the bundle is written to OUT/NAME/VERSION")]
NameOption = Annotated[str, typer.Option(help="Name of the model")]

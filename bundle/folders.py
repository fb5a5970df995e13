"""Where bundles lie: `<models>/<name>/<version>/`, and which of them a name on the command line means."""

import re
from pathlib import Path

FORMAT = 1
MANIFEST = "bundle.json"


class BundleError(Exception):
    """The folder is not a bundle that can be trusted; says what is wrong and where."""


def check_name(name: str) -> None:
    """Raises ValueError unless the name can be a folder and a part of a URL."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"name is '{name}'; use letters, digits, - and _, starting with a letter or digit")


def next_version(models: Path, name: str) -> int:
    """One more than the highest version of `name`, 1 for the first."""
    versions = [int(p.name) for p in (models / name).glob("*") if p.name.isdecimal()]
    return max(versions, default=0) + 1


def versions(model_folder: Path) -> dict[int, Path]:
    """The version folders of one model, highest first; names that are no positive integer are none of ours."""
    numbered = {
        int(folder.name): folder
        for folder in model_folder.iterdir()
        if folder.is_dir() and folder.name.isdecimal() and str(int(folder.name)) == folder.name != "0"
    }
    return dict(sorted(numbered.items(), reverse=True))


def locate(bundle: str, default: Path) -> Path:
    """The version folder that BUNDLE on the command line means: itself, a model's highest version, or `default`'s."""
    folder = default if bundle == "default" else Path(bundle)
    if not folder.is_dir():
        raise BundleError(f"{bundle} is not a folder; name a bundle's folder, or 'default' for the bundled model")
    if (folder / MANIFEST).is_file():
        return folder
    if found := versions(folder):
        return next(iter(found.values()))
    raise BundleError(f"{folder} is no bundle: it holds neither {MANIFEST} nor folders named 1, 2, … that do")

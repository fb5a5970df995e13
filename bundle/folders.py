"""Where bundles are: `<models>/<name>/<version>/`, and which of them a name on the command line means."""

import re
import stat
from pathlib import Path
from typing import NamedTuple

# The layout of a bundle's folder, and of bundle.json; to be raised by a change that older programs would misread.
FORMAT = 1
MANIFEST = "bundle.json"
# Every JSON parser reads it as it is written; JavaScript's rounds larger numbers.
MAX_VERSION = 2**53 - 1
# The models that come with the service.
BUNDLED_MODELS = Path(__file__).parents[1] / "app" / "bundled"
DEFAULT_MODEL = BUNDLED_MODELS / "melee"
# A model's name is a folder and a part of URLs. Pydantic only searches for a pattern, hence the anchors.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


class BundleError(Exception):
    """A folder is not a bundle that can be trusted; the message says what is wrong and where."""


def check_name(name: str) -> None:
    """Raises ValueError unless `name` can be that of a model."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"name is '{name}'; use letters, digits, - and _, starting with a letter or digit")


class Subfolders(NamedTuple):
    """What a folder holds: folders in the order of their names, and why other entries cannot be looked at."""

    found: list[Path]
    unreadable: dict[Path, str]


def subfolders(parent: Path) -> Subfolders:
    """Those of `parent`, but for hidden ones; an entry that cannot be looked at is no reason to miss the others."""
    found, unreadable = [], dict[Path, str]()
    for path in sorted(parent.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                found.append(path)
        except FileNotFoundError:
            # Otherwise it was there a moment ago.
            if path.is_symlink():
                unreadable[path] = "it is a link to nothing"
        except OSError as error:
            unreadable[path] = error.strerror or type(error).__name__
    return Subfolders(found, unreadable)


def versions(model_folder: Path) -> dict[int, Path]:
    """The version folders of one model, highest first; whatever is not named by a version is passed over."""
    return versions_among(subfolders(model_folder).found)


def versions_among(folders: list[Path]) -> dict[int, Path]:
    """The same of folders that were listed already."""
    found = ((version_of(folder.name), folder) for folder in folders)
    numbered = {version: folder for version, folder in found if version is not None}
    return dict(sorted(numbered.items(), reverse=True))


def version_of(name: str) -> int | None:
    """The version that a folder's name, or a request, writes: 1 to MAX_VERSION in plain digits, without leading zeros;
    None for any other."""
    # Digits of other scripts, which `int` reads as well, are no second way to write a version. `int` refuses thousands.
    if not re.fullmatch(r"[1-9][0-9]{0,15}", name):
        return None
    return version if (version := int(name)) <= MAX_VERSION else None


def misnamed_versions(folders: list[Path]) -> list[Path]:
    """Those that look as if they were meant to be versions, but have no name of one: 007, or v1 with a bundle in it; a
    link to one that has, such as `latest`, is right."""
    named = {folder.resolve() for folder in versions_among(folders).values()}
    return [
        folder
        for folder in folders
        if version_of(folder.name) is None
        and (re.fullmatch(r"[+-]?\d+", folder.name) or _holds_bundle(folder))
        and not (folder.is_symlink() and folder.resolve() in named)
    ]


def what_versions_are_called(folder: Path) -> str:
    """What to say of a folder that has no name of a version."""
    return (
        f"{folder} is no version; versions are folders called 1, 2, …, in plain digits up to {MAX_VERSION}: rename it"
    )


def _holds_bundle(folder: Path) -> bool:
    try:
        return (folder / MANIFEST).is_file()
    except OSError:
        return False


def next_version(models: Path, name: str) -> int:
    """One more than the highest version of `name`; 1 where there is none yet."""
    home = models / name
    return max(versions(home), default=0) + 1 if home.is_dir() else 1


def locate(bundle: str) -> Path:
    """The version folder that BUNDLE on the command line means: itself, a model's highest version, or, by the word
    default, the bundled model's."""
    folder = DEFAULT_MODEL if bundle == "default" else Path(bundle)
    if not folder.is_dir():
        raise BundleError(f"{bundle} is not a folder; name a bundle's folder, or 'default' for the bundled model")
    if (folder / MANIFEST).is_file():
        return folder
    if found := versions(folder):
        return next(iter(found.values()))
    raise BundleError(f"{folder} is no bundle: it holds neither {MANIFEST} nor folders named 1, 2, … that do")

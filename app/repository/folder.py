"""The models folder: what it must hold for a start, and which of its entries are models."""

from pathlib import Path

from app.errors import listed
from bundle.folders import (
    MANIFEST,
    BundleError,
    check_name,
    misnamed_versions,
    subfolders,
    versions,
    what_versions_are_called,
)


def check_models(models: Path) -> None:
    """Raises BundleError where nothing in the folder could be served, and says what it is in place of a models folder.

    What cannot be read is passed over: whoever mounts a volume there finds a `lost+found` of the superuser's in it.
    """
    try:
        found, unreadable = subfolders(models)
    except (NotADirectoryError, FileNotFoundError):
        raise BundleError(
            f"{models} is not a folder; --models takes a folder of bundles, <models>/<name>/<version>/"
        ) from None
    except OSError as error:
        raise BundleError(f"{models} cannot be read: {error.strerror}") from None
    misnamed = misnamed_versions(found)
    for folder in found:
        try:
            if versions(folder):
                return
            misnamed += misnamed_versions(subfolders(folder).found)
        except OSError as error:
            unreadable[folder] = error.strerror or type(error).__name__
    if (models / MANIFEST).is_file():
        raise BundleError(
            f"{models} is one bundle; give the folder two levels up: --models {models.absolute().parents[1]}"
        )
    if versions(models):
        raise BundleError(f"{models} is one model; give the folder it lies in: --models {models.absolute().parent}")
    if misnamed:
        raise BundleError(what_versions_are_called(misnamed[0]))
    if unreadable:
        raise BundleError(f"{models} holds no model that can be read; cannot read {listed(_names(unreadable))}")
    raise BundleError(f"{models} holds no model; learn one with: jepa train DATA --out {models}")


def could_be_model(folder: Path) -> bool:
    """Whether its name is one that a model may have, which `lost+found` or `System Volume Information` are not."""
    try:
        check_name(folder.name)
    except ValueError:
        return False
    return True


def as_text(name: str | Path) -> str:
    """A name with its bytes that are no UTF-8, which no JSON can hold, written out: b'\\xff' as \\udcff."""
    return str(name).encode(errors="backslashreplace").decode()


def reason_of(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}"


def _names(unreadable: dict[Path, str]) -> list[str]:
    return [f"{path.name} ({reason})" for path, reason in unreadable.items()]

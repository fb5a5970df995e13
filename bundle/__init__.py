"""What training writes and serving reads: the contract between `model/` and `app/`, and the only code they share."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundle.opened import OpenBundle

__all__ = ["open_bundle"]


def open_bundle(bundle: str | Path = "default") -> "OpenBundle":
    """A bundle to use from Python: a version's folder, a model's folder (its highest version), or `default`, the
    bundled model; BundleError for what is none."""
    # Training, which imports this package, needs neither pydantic nor ONNX Runtime.
    from bundle.opened import OpenBundle

    return OpenBundle.of(bundle)

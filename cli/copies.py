"""What a new version of a bundle has of the version before."""

import json
import shutil
from typing import Any

from bundle.files import read_file
from bundle.folders import MANIFEST
from bundle.manifest import MAX_MANIFEST_BYTES
from bundle.reader import Bundle
from bundle.writer import OWN, BundleWriter


def copy_into(writer: BundleWriter, bundle: Bundle) -> dict[str, Any]:
    """Gives the new version all files of the bundle and what its bundle.json says, which is returned."""
    for name in bundle.manifest.files:
        shutil.copyfile(bundle.folder / name, writer.path / name)
    said: dict[str, Any] = json.loads(read_file(bundle.folder / MANIFEST, MAX_MANIFEST_BYTES))
    said = {key: value for key, value in said.items() if key not in OWN}
    writer.describe(**said)
    return said

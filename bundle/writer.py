"""Writes a bundle: the folder of plain files that is all the service knows of a model."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.folders import FORMAT, next_version


@contextmanager
def writing_bundle(models: Path, name: str, description: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to put a bundle's files in; on leaving, it becomes `<models>/<name>/<version>/` in one rename.

    bundle.json, with `description` and the size and SHA-256 of each file, is written last. If anything fails the
    folder goes and the models are as they were.
    """
    home = models / name
    home.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=home))
    try:
        yield staging
        version = next_version(models, name)
        written = {path.name: _fingerprint(path) for path in sorted(staging.iterdir())}
        about = {"format": FORMAT, "name": name, "version": version, **description, "files": written}
        (staging / "bundle.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
        for path in staging.iterdir():
            _sync(path)
        staging.chmod(0o755)
        os.replace(staging, home / str(version))
        _sync(home)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _fingerprint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writes a bundle: the folder of plain files that is all the service knows of a model."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = 1


def check_name(name: str) -> None:
    """Raises ValueError unless the name can be a folder and a part of a URL."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"name is '{name}'; use letters, digits, - and _, starting with a letter or digit")


def next_version(models: Path, name: str) -> int:
    """One more than the highest version of `name`, 1 for the first."""
    versions = [int(p.name) for p in (models / name).glob("*") if p.name.isdecimal()]
    return max(versions, default=0) + 1


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

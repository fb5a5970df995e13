"""Writes a bundle: the folder of plain files that is all the service knows of a model."""

import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bundle.folders import FORMAT, MANIFEST, check_name, next_version

# What a rename answers, by platform, when the version was taken since it was looked up.
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

# What bundle.json says that is the writer's own.
OWN = ("format", "name", "version", "files")


class BundleWriter:
    """A context manager that writes `<models>/<name>/<version>/`, the version being the next that is free.

    Inside the block, put the files into `path` and `describe` the bundle. On leaving it, bundle.json is written and
    the folder appears in one rename; `folder` says where. If anything fails, the models are as they were.
    """

    path: Path
    folder: Path

    def __init__(self, models: Path, name: str) -> None:
        """ValueError for a name that no bundle can have."""
        check_name(name)
        self._models, self._name = models, name
        self._described: dict[str, Any] = {}

    def describe(self, **keys: Any) -> None:
        """What bundle.json says besides the bundle's name, its version and its files."""
        self._described |= keys

    def __enter__(self) -> Self:
        home = self._models / self._name
        home.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=".tmp-", dir=home))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self.folder = self._publish()
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _publish(self) -> Path:
        files = {path.name: _fingerprint(path) for path in sorted(self.path.iterdir())}
        for path in self.path.iterdir():
            _sync(path)
        self.path.chmod(0o755)
        # Another writer may take the version between the look and the rename, which then goes to the one after.
        for version in itertools.count(next_version(self._models, self._name)):
            self._write_manifest(version, files)
            folder = self._models / self._name / str(version)
            try:
                self.path.rename(folder)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
            else:
                break
        _sync(folder.parent)
        return folder

    def _write_manifest(self, version: int, files: dict[str, Any]) -> None:
        about = {"format": FORMAT, "name": self._name, "version": version, **self._described, "files": files}
        manifest = self.path / MANIFEST
        manifest.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
        _sync(manifest)


def _fingerprint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

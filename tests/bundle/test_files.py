import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.files import open_regular, read_file, sha256_of
from bundle.folders import BundleError
from bundle.reader import file_problems, read_bundle
from tests.support.bundles import TinyModel, write_manifest


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder_instead(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    # The path of a socket may not be long, as those of pytest are.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")
        os.rename(f"{short}/s", path)


def endless_link(path: Path) -> None:
    path.symlink_to(path.name)


ODD: list[tuple[Callable[[Path], None], str]] = [
    (fifo, "is a FIFO"),
    (device, "is a device"),
    (folder_instead, "is a folder"),
    (unix_socket, "is a socket"),
    (endless_link, "Too many levels"),
]
NAMES = ["bundle.json", "golden.npz", "predictor.onnx", "README.md"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("make", "complaint"), ODD, ids=lambda each: getattr(each, "__name__", ""))
def test_whatever_is_no_regular_file_is_refused_unread(
    tmp_path: Path, name: str, make: Callable[[Path], None], complaint: str
) -> None:
    folder = TinyModel().write(tmp_path)
    (folder / "README.md").write_text("about it")
    write_manifest(folder, TinyModel().manifest())
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises((BundleError, OSError), match=complaint):
        read_bundle(folder)


def test_a_link_to_a_regular_file_is_read(folder: Path) -> None:
    (folder / "golden.npz").rename(folder.parent / "stored")
    (folder / "golden.npz").symlink_to(folder.parent / "stored")
    assert [*file_problems(folder, read_bundle(folder).manifest)] == []


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(BundleError, match="has 5 bytes; at most 4 are read"):
        read_file(path, 4)
    # It takes no room on the disk, and would take a terabyte of memory.
    os.truncate(path, 2**40)
    with pytest.raises(BundleError, match="has 1099511627776 bytes"):
        read_file(path, 2**30)


def test_the_hash_is_that_of_so_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    with open_regular(path) as (file, size):
        assert size == 6
        # sha256sum of "abc"
        assert sha256_of(file, 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_bundle_that_is_too_large_is_refused_before_its_files_are_looked_at(folder: Path) -> None:
    os.truncate(folder / "golden.npz", 2**40)
    with pytest.raises(BundleError, match=r"the files of .* have \d+ bytes; a bundle may have 1000"):
        read_bundle(folder, 1000)

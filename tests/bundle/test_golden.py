import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest
from tests.support.memory import peak_bytes

# What refusing a bundle may take beyond what Python has taken before.
MAX_BYTES = 2**24


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def head(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """An array's header, without its numbers."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def pack(
    path: Path, features: bytes | None, method: int = zipfile.ZIP_DEFLATED, extra: int = 0, lies: int | None = None
) -> None:
    """The same golden rows with other bytes for the features, or the same; with `extra` further entries, and one that
    says of itself that it unpacks to `lies` bytes."""
    arrays = dict(np.load(path))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            if name != "features" or features is None:
                archive.writestr(f"{name}.npy", saved(array))
            else:
                archive.writestr("features.npy", features, method)
        for number in range(extra):
            archive.writestr(f"extra{number}.npy", b"")
        if lies is not None:
            archive.getinfo("features.npy").file_size = lies


ZEROS = bytes(2**26)
CASES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: pack(path, head((2**40, 10))), "features has 1099511627776 rows of 10 numbers; at most 1024 rows"),
    (lambda path: pack(path, head((-1, 10))), "features has -1 rows"),
    (lambda path: pack(path, head((5, 2**40))), r"features has shape \[5, 1099511627776\]; it must be \['n', 10\]"),
    (lambda path: pack(path, head((50,))), r"features has shape \[50\]"),
    (lambda path: pack(path, head((5, 10), "<i4")), "features holds int32; it must hold floats"),
    (lambda path: pack(path, head((5, 10), "|O")), "features holds object; it must hold floats"),
    (lambda path: pack(path, head((5, 10), "<f16")), "it must hold floats"),
    (lambda path: pack(path, head((5, 10)) + ZEROS), "does not have the 200 bytes that its shape needs"),
    (lambda path: pack(path, head((5, 10))), "does not have the 200 bytes"),
    (lambda path: pack(path, saved(np.zeros((6, 10), np.float32))), "has arrays of 6, 5, 5, 5, 5, 5 rows; each must"),
    (lambda path: pack(path, saved(np.zeros((0, 10), np.float32))), "has arrays of 0, 5, 5, 5, 5, 5 rows"),
    (lambda path: pack(path, bytes(100), zipfile.ZIP_LZMA), "features is packed by method 14"),
    (lambda path: pack(path, bytes(100), zipfile.ZIP_BZIP2), "features is packed by method 12"),
    (lambda path: pack(path, None, extra=10_000), "lists more entries than golden rows have"),
    (lambda path: pack(path, None, lies=10), "features|damaged"),
    (lambda path: pack(path, b"\x93NUMPY\x01\0\xff\xff" + b"[" * 65535), "damaged|header|array|shape"),
    (lambda path: pack(path, b"no array"), "magic"),
    (lambda path: path.write_bytes(b""), "is no zip archive"),
    (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "lacks features"),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is no zip archive"),
]


@pytest.mark.parametrize(("spoil", "complaint"), CASES)
def test_golden_rows_that_promise_something_absurd_are_refused_before_they_are_unpacked(
    folder: Path, tiny: TinyModel, spoil: Callable[[Path], object], complaint: str
) -> None:
    spoil(folder / "golden.npz")
    write_manifest(folder, tiny.manifest())
    bundle = read_bundle(folder)

    def read() -> None:
        with pytest.raises((BundleError, ValueError), match=complaint):
            _ = bundle.golden

    assert peak_bytes(read) < MAX_BYTES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_golden_rows_are_read_packed_or_not_in_any_width(
    folder: Path, tiny: TinyModel, method: int, kind: type
) -> None:
    rows = tiny.rows(5, seed=9)
    pack(folder / "golden.npz", saved(rows.astype(kind)), method)
    write_manifest(folder, tiny.manifest())
    golden = read_bundle(folder).golden
    assert golden.features.dtype == np.float32
    np.testing.assert_allclose(golden.features, rows, rtol=1e-3)
    assert golden.horizon.shape == (5,)

from pathlib import Path

import numpy as np
import pytest

from app.inference.sessions import Graphs
from app.repository import selfcheck
from bundle.folders import BundleError
from bundle.reader import Bundle, read_bundle
from tests.support.bundles import COST, TinyModel, write_manifest


def rounded(folder: Path, golden_cosine: float, steps: int = 127) -> Bundle:
    """A bundle with int8 graphs that says what their least cosine was at export."""
    path = TinyModel(int8_steps=steps).write(folder)
    write_manifest(path, TinyModel().manifest() | {"precision": {"int8": COST | {"golden_cosine": golden_cosine}}})
    return read_bundle(path)


def test_float32_must_give_the_numbers_and_int8_the_direction(tmp_path: Path) -> None:
    bundle = rounded(tmp_path, 0.99)
    selfcheck.check(bundle, Graphs(bundle), "float32")
    selfcheck.check(bundle, Graphs(bundle, "int8"), "int8")
    with pytest.raises(BundleError, match="does not reproduce its golden rows"):
        selfcheck.check(bundle, Graphs(bundle, "int8"), "float32")


def test_int8_must_come_as_near_as_it_came_at_export(tmp_path: Path) -> None:
    bundle = rounded(tmp_path, 1.0, steps=12)
    graphs = Graphs(bundle, "int8")
    found = min(parity.min_cosine for parity in selfcheck.compare(bundle, graphs, "int8"))
    assert selfcheck.INT8_COSINE < found < 1 - selfcheck.INT8_SLACK
    with pytest.raises(BundleError, match=r"\.int8\.onnx does not reproduce its golden rows"):
        selfcheck.check(bundle, graphs, "int8")
    write_manifest(bundle.folder, TinyModel().manifest() | {"precision": {"int8": COST | {"golden_cosine": found}}})
    selfcheck.check(read_bundle(bundle.folder), graphs, "int8")


def parity(size: float, difference: float) -> selfcheck.Parity:
    """Of embeddings of that size that differ by that much, in each element."""
    stored = np.random.default_rng(0).normal(0, size, (16, 32)).astype(np.float32)
    return selfcheck._parity("target_encoder", stored + np.float32(difference), stored, None)


@pytest.mark.parametrize(("size", "difference"), [(0.1, 5e-5), (1, 5e-5), (1000, 5e-2)])
def test_rounding_may_grow_with_the_size_of_an_embedding(size: float, difference: float) -> None:
    assert parity(size, difference).holds


@pytest.mark.parametrize(("size", "difference"), [(0.01, 5e-4), (1, 5e-3), (1000, 5)])
def test_what_is_more_than_rounding_does_not_hold(size: float, difference: float) -> None:
    assert not parity(size, difference).holds

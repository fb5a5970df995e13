import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.folders import BundleError
from bundle.heads import Head, Heads
from bundle.manifest import read_manifest
from bundle.reader import Bundle, read_bundle
from tests.support.bundles import HEADS, TinyModel, write_manifest
from tests.support.memory import peak_bytes

TINY = TinyModel(heads=True)
MAX_BYTES = 2**24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TINY.write(tmp_path)


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return read_bundle(folder)


@pytest.fixture
def embeddings() -> np.ndarray:
    return TINY.encode(TINY.rows(7))


@pytest.mark.parametrize("horizon_index", [0, 1, 2])
def test_values_are_those_of_the_formulas_at_every_horizon(
    bundle: Bundle, embeddings: np.ndarray, horizon_index: int
) -> None:
    assert bundle.heads is not None
    values = bundle.heads.values(embeddings, horizon_index)
    expected = TINY.values(embeddings, horizon_index)
    assert bundle.heads.outputs == [*expected]
    np.testing.assert_allclose(values, np.stack([*expected.values()], axis=1), rtol=1e-5)
    np.testing.assert_allclose(values[:, 1:4].sum(1), 1, rtol=1e-5)


def test_each_row_may_have_a_horizon_of_its_own(bundle: Bundle, embeddings: np.ndarray) -> None:
    assert bundle.heads is not None
    index = np.arange(7) % 3
    expected = [bundle.heads.values(row[None], int(i))[0] for row, i in zip(embeddings, index, strict=True)]
    np.testing.assert_allclose(bundle.heads.values(embeddings, index), expected, rtol=1e-5)


def test_selected_heads_answer_as_they_do_among_all_in_the_order_asked(bundle: Bundle, embeddings: np.ndarray) -> None:
    assert bundle.heads is not None
    some = bundle.heads.select(["speed", "mood", "airborne"])
    assert some.outputs == ["speed", "mood=calm", "mood=tense", "mood=wild", "airborne"]
    expected = TINY.values(embeddings, 2)
    np.testing.assert_allclose(
        some.values(embeddings, 2), np.stack([expected[name] for name in some.outputs], axis=1), rtol=1e-5
    )
    with pytest.raises(KeyError, match="sped"):
        bundle.heads.select(["sped"])


def test_no_score_is_so_large_that_a_probability_is_none() -> None:
    heads = (Head("a", "binary", ("a",)), Head("b", "classes", ("b=1", "b=2")))
    all_heads = Heads(
        heads, np.array([[1e30, 1e30, -1e30]], np.float32), np.zeros(3, np.float32), np.ones((1, 3, 4), np.float32)
    )
    values = all_heads.values(np.array([[1], [-1]], np.float32), 0)
    np.testing.assert_array_equal(values, [[1, 1, 0], [0, 0, 1]])


def test_a_bundle_without_heads_has_none(tmp_path: Path) -> None:
    bundle = read_bundle(TinyModel().write(tmp_path))
    assert bundle.heads is None
    assert bundle.novelty is None


def test_what_is_written_is_read_again(bundle: Bundle, folder: Path) -> None:
    assert bundle.heads is not None
    bundle.heads.write(folder / "heads.npz")
    write_manifest(folder, TINY.manifest())
    again = read_bundle(folder).heads
    assert again is not None
    np.testing.assert_array_equal(again.calibration, bundle.heads.calibration)
    assert again.heads == bundle.heads.heads


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weights": np.zeros((4, 5), np.float32)}, r"weights has shape \[4, 5\]; it must be \[4, 6\]"),
        ({"weights": np.zeros((4, 6), np.int32)}, "weights holds int32; it must hold floats"),
        ({"biases": np.zeros(7, np.float32)}, r"biases has shape \[7\]; it must be \[6\]"),
        ({"biases": np.full(6, np.nan, np.float32)}, "biases holds NaN or an infinite number"),
        ({"calibration": np.zeros((2, 6, 4), np.float32)}, r"it must be \[3, 6, 4\]"),
        ({"calibration": np.full((3, 6, 4), np.inf)}, "calibration holds NaN or an infinite number"),
        ({"calibration": None}, "lacks calibration"),
    ],
)
def test_arrays_that_do_not_fit_the_manifest_are_refused(
    folder: Path, change: dict[str, np.ndarray | None], complaint: str
) -> None:
    arrays = {name: values for name, values in (TINY.head_weights() | change).items() if values is not None}
    np.savez(folder / "heads.npz", **arrays)  # type: ignore[arg-type]
    write_manifest(folder, TINY.manifest())
    bundle = read_bundle(folder)

    def read() -> None:
        with pytest.raises(BundleError, match=complaint):
            _ = bundle.heads

    assert peak_bytes(read) < MAX_BYTES


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is(folder: Path) -> None:
    np.savez_compressed(folder / "heads.npz", **(TINY.head_weights() | {"weights": np.zeros((2**24, 1), np.float32)}))  # type: ignore[arg-type]
    write_manifest(folder, TINY.manifest())
    bundle = read_bundle(folder)

    def read() -> None:
        with pytest.raises(BundleError, match=r"weights has shape \[16777216, 1\]"):
            _ = bundle.heads

    assert peak_bytes(read) < MAX_BYTES


def first(document: dict[str, Any]) -> dict[str, Any]:
    head: dict[str, Any] = document["heads"][0]
    return head


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda d: first(d).update(name="two words"), "heads.0.name String should match pattern"),
        (lambda d: first(d).update(name="a,b"), "heads.0.name String should match pattern"),
        (lambda d: first(d).update(name="a=b"), "heads.0.name String should match pattern"),
        (lambda d: first(d).update(kind="ternary"), "heads.0.kind Input should be 'binary', 'classes' or 'number'"),
        (lambda d: first(d).update(outputs=["other"]), "outputs of the binary head 'airborne' must be its name alone"),
        (lambda d: d["heads"][1].update(outputs=["calm"]), "outputs of the head 'mood' must be written 'mood=class'"),
        (lambda d: d["heads"].append(d["heads"][0]), "heads repeat a name"),
        (lambda d: d["heads"][1]["outputs"].append("mood=calm"), "heads repeat a name"),
        (lambda d: d["heads"].extend([d["heads"][0]] * 1000), "heads List should have at most 1000 items"),
        (lambda d: d["heads"][1].update(outputs=[f"mood={i}" for i in range(10_001)]), "should have at most 10000"),
        (lambda d: d["heads"][1].update(outputs=[f"mood={i}" for i in range(10_000)]), "heads have 10003 outputs"),
        (lambda d: first(d).update(table={"x": "a" * 2**20}), "heads take 1048"),
        (lambda d: first(d).update(table={"x": json.loads("[" * 300 + "]" * 300)}), "are nested too deep"),
        (lambda d: d.update(options={"x": json.loads("[" * 300 + "]" * 300)}), "are nested too deep"),
        (lambda d: d["files"].pop("heads.npz"), "files lacks heads.npz"),
    ],
)
def test_heads_that_make_no_sense_are_refused(
    folder: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    document = json.loads((folder / "bundle.json").read_text())
    edit(document)
    (folder / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError) as refusal:
        read_manifest(folder)
    assert complaint in str(refusal.value)
    assert len(str(refusal.value)) < 3000


def test_heads_are_listed_in_the_order_of_their_columns(folder: Path) -> None:
    assert [head.name for head in read_manifest(folder).listed_heads()] == [*HEADS]

"""A bundle is used from Python: tables by name, arrays by position, the same numbers as from jepa embed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.inference.sessions import Graphs
from bundle import open_bundle
from bundle.folders import BundleError
from bundle.opened import OpenBundle
from bundle.reader import read_bundle
from tests.support.acting import ACTING, inputs, predicted, values
from tests.support.bundles import TinyModel

ROOT = Path(__file__).parents[2]
TINY = TinyModel()
NAMES = tuple(f"{group}_{i}" for group, width in TINY.groups for i in range(width))
ROWS = TINY.rows(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> OpenBundle:
    return open_bundle(folder)


def columns(rows: Any = ROWS) -> dict[str, Any]:
    """In another order than the model's, and with one that it does not know."""
    return {"episode": np.zeros(len(rows)), **{name: rows[:, i] for i, name in reversed([*enumerate(NAMES)])}}


def in_pandas(made: dict[str, Any]) -> Any:
    return pytest.importorskip("pandas").DataFrame(made)


def in_polars(made: dict[str, Any]) -> Any:
    return pytest.importorskip("polars").DataFrame(made)


def in_records(made: dict[str, Any]) -> Any:
    rows = np.zeros(len(made["own_0"]), [(name, np.float32) for name in made])
    for name, column in made.items():
        rows[name] = column
    return rows


TABLES = pytest.mark.parametrize("table", [dict, pa.table, in_pandas, in_polars, in_records])


def test_embeddings_are_those_of_jepa_embed_and_of_the_service(bundle: OpenBundle, folder: Path) -> None:
    graph = Graphs(read_bundle(folder)).target_encoder
    assert bundle.embed(ROWS).dtype == np.float32
    np.testing.assert_array_equal(bundle.embed(ROWS), np.concatenate([graph.run(ROWS[:256]), graph.run(ROWS[256:])]))
    np.testing.assert_allclose(bundle.embed(ROWS, encoder="context"), TINY.encode(ROWS, "context"), atol=1e-6)
    np.testing.assert_array_equal(bundle.embed(ROWS[0]), bundle.embed(ROWS[:1]))
    assert bundle.embed(ROWS[:0]).shape == (0, 4)


@TABLES
def test_columns_are_taken_by_name_whatever_table_they_are_in(table: Any, bundle: OpenBundle) -> None:
    np.testing.assert_array_equal(bundle.embed(table(columns())), bundle.embed(ROWS))
    made = columns()
    made["own_x"] = made.pop("own_0")
    if table is not in_records:
        with pytest.raises(ValueError, match=r"lacks 1 of the 10 columns of the model: 'own_0' \(the near.* 'own_x'\)"):
            bundle.embed(table(made))


@pytest.mark.parametrize("table", [pa.table, in_pandas, in_polars])
def test_lists_are_spread_as_training_spreads_them(table: Any, bundle: OpenBundle) -> None:
    made = {"stage": ROWS[:, 8:].tolist(), "own": [*ROWS[:, :3]], "opponent": [*ROWS[:, 3:8]]}
    np.testing.assert_array_equal(bundle.embed(table(made)), bundle.embed(ROWS))
    np.testing.assert_array_equal(bundle.embed(table({"features": ROWS.tolist()})), bundle.embed(ROWS))


@TABLES
def test_a_missing_number_is_refused_or_hides_its_group(table: Any, bundle: OpenBundle) -> None:
    gappy = ROWS[:5].astype(np.float64)
    gappy[2, 4] = np.nan
    hidden = ROWS[:5].copy()
    hidden[2, 3:8] = np.nan
    source = table(columns(gappy))
    with pytest.raises(ValueError, match=r'opponent_1 is nan in row 2; .* missing="hide" hides its group in that row'):
        bundle.embed(source)
    np.testing.assert_array_equal(bundle.embed(source, missing="hide"), bundle.embed(hidden, missing="hide"))
    np.testing.assert_allclose(bundle.embed(source, missing="hide"), TINY.encode(hidden), atol=1e-6)


def test_nothing_is_missing_in_every_way_that_tables_have(bundle: OpenBundle) -> None:
    pandas = pytest.importorskip("pandas")
    made = columns(ROWS[:2])
    for nothing in (
        pa.table(made | {"own_0": pa.nulls(2, pa.float32())}),
        pandas.DataFrame(made).assign(own_0=pandas.array([1, None], "Int64")),
        pandas.DataFrame(made).assign(own_0=[None, 1.5]),
        pandas.DataFrame(made).assign(own_0=[pandas.NA, 1.5]),
        made | {"own_0": [None, 1.5]},
        made | {"own_0": np.ma.array([1, 2], mask=[True, False])},
        np.ma.array(ROWS[:2], mask=np.arange(20).reshape(2, 10) == 0),
    ):
        with pytest.raises(ValueError, match="own_0 is nan in row"):
            bundle.embed(nothing)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("frames.parquet", "frames.parquet is a path; read it first"),
        (ROWS[:, :9], r"the array has shape \[300, 9\]; the model takes \[rows, 10\]"),
        (ROWS[None], "the array has shape"),
        ([[1.0], [1.0, 2.0]], "the rows cannot be made an array"),
        (None, r"the data is a builtins.NoneType of object; give numbers \[rows, 10\] or a table"),
        (np.full((2, 10), "a"), "of <U1; give numbers"),
        (columns() | {"own_0": ["1.5"] * 300}, "column 'own_0' does not hold numbers"),
        (columns() | {"own_0": np.full(300, "2020", "datetime64[D]")}, "they are datetime64"),
        (columns() | {"own_0": np.zeros(3)}, "columns have different lengths"),
        (columns() | {"own_0": np.zeros((300, 2))}, r"column 'own_0' has shape \(300, 2\)"),
        (columns() | {"own_0": np.full(300, 1e300)}, "own_0 is inf in row 0; numbers must be finite$"),
        (np.where(np.arange(10) < 3, np.inf, ROWS), "own_0 is inf in row 0"),
    ],
)  # fmt: skip
def test_what_is_no_data_is_refused_in_a_sentence(source: Any, message: str, bundle: OpenBundle) -> None:
    with pytest.raises(ValueError, match=message):
        bundle.embed(source)
    with pytest.raises(ValueError, match="nothing left to see"):
        bundle.embed(np.full((1, 10), np.nan), missing="hide")


def test_options_that_are_none_are_named(bundle: OpenBundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoder is 'both'; it must be target or context"):
        bundle.embed(ROWS, encoder="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing is 'drop'; it must be refuse or hide"):
        bundle.embed(ROWS, missing="drop")  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="is not a folder"):
        open_bundle(tmp_path / "none")


def test_a_model_without_names_takes_columns_by_position(tmp_path: Path) -> None:
    nameless = open_bundle(TinyModel(names=tuple(f"f{i:03d}" for i in range(10))).write(tmp_path))
    table = dict(zip(NAMES, ROWS.T, strict=True))
    np.testing.assert_array_equal(nameless.embed(table), nameless.embed(ROWS))
    with pytest.raises(ValueError, match="has 11 feature columns, the model takes 10, and the model has no names"):
        nameless.embed(table | {"more": ROWS[:, 0]})


def test_the_bundled_model_opens_where_only_serving_is_installed() -> None:
    blocked = {"app", "model", "cli", "torch", "pyarrow", "pandas", "polars", "fastapi", "uvicorn", "pydantic_settings"}
    program = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocked())
from bundle import open_bundle
import numpy as np
bundle = open_bundle("default")
print(bundle.embed(np.zeros((2, bundle.manifest.input_dim))).shape, bundle)
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(2, 256) <bundle melee version")


@pytest.mark.parametrize(("horizon", "index"), [(0, 0), (15, 2)])
def test_a_forecast_is_that_of_the_heads_for_each_row(tmp_path: Path, horizon: int, index: int) -> None:
    tiny = TinyModel(heads=True)
    rows = tiny.rows(300)
    forecast = open_bundle(tiny.write(tmp_path)).forecast(rows, heads=["speed", "mood"], horizon=horizon)
    embeddings = tiny.encode(rows)
    if horizon:
        ones, frames = np.ones((300, 2), np.float32), np.full(300, horizon, np.float32)
        embeddings = tiny.predict(tiny.encode(rows, "context"), ones, frames)
    expected = tiny.values(embeddings, index)
    assert forecast.outputs == ["speed", "mood=calm", "mood=tense", "mood=wild"]
    assert forecast.values.dtype == np.float32
    np.testing.assert_allclose(
        forecast.values, np.stack([expected[name] for name in forecast.outputs], axis=1), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": ["damag"]}, "did you mean 'damage'"),
        ({"heads": "damage"}, r"heads=\['damage'\]"),
        ({"heads": []}, "heads is empty"),
        ({"horizon": 14}, "of which 15 is the nearest"),
    ],
)
def test_a_forecast_that_a_bundle_does_not_know_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    tiny = TinyModel(heads=True)
    with pytest.raises(ValueError, match=message):
        open_bundle(tiny.write(tmp_path)).forecast(tiny.rows(1), **options)


def test_a_bundle_without_heads_says_what_makes_them(tmp_path: Path) -> None:
    tiny = TinyModel()
    with pytest.raises(ValueError, match="`jepa heads` makes them"):
        open_bundle(tiny.write(tmp_path)).forecast(tiny.rows(1))


def test_forecasts_know_the_inputs_that_they_are_told(tmp_path: Path) -> None:
    folder = ACTING.write(tmp_path)
    bundle, rows, actions = open_bundle(folder), ACTING.rows(300), inputs(300, 3)
    found = bundle.forecast(rows, horizon=15, actions=actions)
    np.testing.assert_allclose(found.values, values(predicted(rows, actions)), rtol=1e-3)
    np.testing.assert_allclose(
        bundle.forecast(rows[7], horizon=15, actions=actions[7]).values, found.values[7:8], rtol=1e-4
    )
    none = bundle.forecast(rows[:2], horizon=15).values
    np.testing.assert_allclose(none, values(predicted(rows[:2], None)), rtol=1e-3)
    np.testing.assert_array_equal(none, bundle.forecast(rows[:2], horizon=15, actions=np.full((2, 1, 3), None)).values)


@pytest.mark.parametrize(
    ("actions", "options", "message"),
    [
        (np.zeros((2, 1, 3)), {"horizon": 0}, "horizon is 0, the frame itself; set horizon"),
        (
            np.zeros((3, 1, 3)),
            {},
            r"actions has shape \[3, 1, 3\]; it must be \[2, n, 3\]: for each row the inputs jump",
        ),
        (np.zeros((1, 3)), {}, r"actions has shape \[1, 3\]; it must be \[2, n, 3\]"),
        (np.zeros((2, 5, 3)), {}, "of n frames, 1 to 4"),
        (np.full((2, 1, 3), np.inf), {}, "infinite numbers; put NaN where an input is not known"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path: Path, actions: Any, options: dict[str, Any], message: str) -> None:
    bundle = open_bundle(ACTING.write(tmp_path))
    with pytest.raises(ValueError, match=message):
        bundle.forecast(ACTING.rows(2), actions=actions, **{"horizon": 6} | options)


def test_a_model_that_takes_no_inputs_says_so(tmp_path: Path) -> None:
    bundle = open_bundle(TinyModel(heads=True).write(tmp_path))
    with pytest.raises(ValueError, match="takes no actions; leave them out, or train with the columns of your inputs"):
        bundle.forecast(ROWS[:1], horizon=6, actions=np.zeros((1, 1, 3)))

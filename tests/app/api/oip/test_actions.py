"""The player's own inputs over the Open Inference Protocol: what Triton's clients send over REST and gRPC."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.support.acting import ACTING, inputs, predicted, values
from tests.support.serving import Server


@pytest.fixture(scope="module")
def server(acting_models: Path) -> Iterator[Server]:
    with Server("--models", str(acting_models), "--max-rows", "8", "--grpc-port", "0") as server:
        yield server


class Way:
    """One of the ways in which Triton's clients send tensors."""

    def __init__(self, server: Server, name: str) -> None:
        self._library: Any = triton_grpc if name == "grpc" else triton
        (grpc_address,) = re.findall(r"gRPC on ([\d.]+:\d+)", server.log)
        address = grpc_address if name == "grpc" else f"{server.host}:{server.port}"
        self.client = self._library.InferenceServerClient(address)
        self._options = {} if name == "grpc" else {"binary_data": name == "binary"}

    def infer(self, model: str, parameters: dict[str, Any] | None = None, **tensors: np.ndarray) -> Any:
        given = []
        for name, array in tensors.items():
            made = self._library.InferInput(name, array.shape, "FP32")
            given.append(made.set_data_from_numpy(array.astype(np.float32), **self._options))
        return self.client.infer(model, given, parameters=parameters or {})


@pytest.fixture(params=["binary", "json", "grpc"])
def way(server: Server, request: pytest.FixtureRequest) -> Iterator[Way]:
    way = Way(server, request.param)
    yield way
    way.client.close()


def known(rows: int, frames: int) -> np.ndarray:
    """Inputs that are all known, since JSON as Triton's client writes it has no null."""
    return np.nan_to_num(inputs(rows, frames), nan=0.5)


@pytest.mark.parametrize("frames", [1, 4])
def test_the_predictor_takes_inputs_row_by_row(way: Way, frames: int) -> None:
    rows, actions = ACTING.rows(3), known(3, frames)
    context, horizon = ACTING.encode(rows, "context"), np.full(3, 15)
    found = way.infer("tiny.predictor", context=context, horizon=horizon, actions=actions)
    np.testing.assert_allclose(found.as_numpy("prediction"), predicted(rows, actions), atol=1e-5)


def test_candidates_stand_beside_one_row(way: Way) -> None:
    row, actions = ACTING.rows(1), known(6, 4)
    context = ACTING.encode(row, "context")
    found = way.infer("tiny.predictor", context=context, horizon=np.array([15]), actions=actions)
    np.testing.assert_allclose(found.as_numpy("prediction"), predicted(row, actions), atol=1e-5)
    ahead = way.infer("tiny.forecast", {"horizon": 15, "novelty": True}, features=row, actions=actions)
    np.testing.assert_allclose(ahead.as_numpy("values"), values(predicted(row, actions)), rtol=1e-4)
    assert ahead.as_numpy("novelty").shape == (6,)


def test_forecasts_take_inputs_and_hidden_groups(way: Way) -> None:
    rows, actions = ACTING.rows(3), known(3, 2)
    options = {"horizon": 6, "hidden": "opponent"}
    found = way.infer("tiny.forecast", options, features=rows, actions=actions).as_numpy("values")
    rows[:, 3:8] = np.nan
    np.testing.assert_allclose(found, values(predicted(rows, actions, 6), 6), rtol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "grpc"])
def test_what_is_not_known_is_nan(server: Server, kind: str) -> None:
    way, row, actions = Way(server, kind), ACTING.rows(1), inputs(5, 4)
    found = way.infer("tiny.predictor", context=ACTING.encode(row, "context"), horizon=np.array([15]), actions=actions)
    np.testing.assert_allclose(found.as_numpy("prediction"), predicted(row, actions), atol=1e-5)
    way.client.close()


@pytest.mark.parametrize("flat", [True, False])
def test_in_json_it_is_null(server: Server, flat: bool) -> None:
    rows, actions = ACTING.rows(2), inputs(2, 3)
    numbers = json.loads(json.dumps(actions.astype(float).tolist()).replace("NaN", "null"))
    if flat:
        numbers = [number for each in numbers for given in each for number in given]
    tensors = [
        {"name": "features", "datatype": "FP32", "shape": [2, 10], "data": rows.tolist()},
        {"name": "actions", "datatype": "FP32", "shape": [2, 3, 3], "data": numbers},
    ]
    document = {"inputs": tensors, "parameters": {"horizon": 15}}
    answer = httpx.post(f"{server.url}/v2/models/tiny.forecast/infer", json=document)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["outputs"]
    np.testing.assert_allclose(np.reshape(found["data"], found["shape"]), values(predicted(rows, actions)), rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 3), {}, r"actions has shape \[3, 3\], model 'tiny' takes \[rows, frames, 3\], of at most 4 frames"),
        ((3, 2, 2), {}, r"actions has shape \[3, 2, 2\], model 'tiny' takes \[rows, frames, 3\]"),
        ((3, 5, 3), {}, "actions has 5 inputs, model 'tiny' takes those of 1 to 4 frames"),
        ((2, 4, 3), {}, "actions holds inputs for 2 rows, but the request has 3"),
        ((9, 4, 3), {}, "the request has 9 rows, the limit is 8"),
        ((3, 4, 3), {"horizon": 0}, "horizon is 0, the frame itself"),
    ],
)
def test_wrong_inputs_are_refused(way: Way, shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message):
        way.infer("tiny.forecast", {"horizon": 6} | options, features=ACTING.rows(3), actions=np.zeros(shape))


def test_an_infinite_number_is_refused(server: Server) -> None:
    for kind in ("binary", "grpc"):
        way, actions = Way(server, kind), np.zeros((3, 4, 3))
        actions[1, 2, 0] = np.inf
        with pytest.raises(InferenceServerException, match=r"actions\[1\]\[2\]\[0\] \(jump\) is infinite"):
            way.infer("tiny.forecast", {"horizon": 6}, features=ACTING.rows(3), actions=actions)
        way.client.close()


def test_metadata_and_configuration_list_them(way: Way) -> None:
    for model, tensors in (("tiny.forecast", 2), ("tiny.predictor", 4)):
        described = way.client.get_model_metadata(model)
        described = described if isinstance(described, dict) else _as_dict(described)
        assert len(described["inputs"]) == tensors
        assert described["inputs"][-1] == {"name": "actions", "datatype": "FP32", "shape": [-1, -1, 3]}


def _as_dict(described: Any) -> dict[str, Any]:
    tensors = [{"name": each.name, "datatype": each.datatype, "shape": [*each.shape]} for each in described.inputs]
    return {"inputs": tensors}


def test_the_configuration_says_that_they_may_be_left_out(server: Server) -> None:
    config = httpx.get(f"{server.url}/v2/models/tiny.forecast/config").json()
    assert config["input"][-1] == {"name": "actions", "data_type": "TYPE_FP32", "optional": True, "dims": [-1, 3]}


def test_candidates_are_counted_as_the_rows_they_are(server: Server) -> None:
    def counted() -> int:
        (stats,) = httpx.get(f"{server.url}/v2/models/tiny.predictor/stats").json()["model_stats"]
        return int(stats["inference_count"])

    before, way = counted(), Way(server, "binary")
    way.infer(
        "tiny.predictor",
        context=ACTING.encode(ACTING.rows(1), "context"),
        horizon=np.array([6]),
        actions=known(5, 1),
    )
    way.client.close()
    assert counted() == before + 5

"""What Triton's own client sends and reads, against the service as users start it."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.support.bundles import TinyModel
from tests.support.serving import Server

# Enough rows that bodies take several packets, and a run is cut into pieces.
ROWS = 300


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "2") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        yield client


def tensor(name: str, values: Any, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, values.shape, datatype)
    return made.set_data_from_numpy(values, binary_data=binary)


def outputs(name: str, binary: bool | None) -> list[triton.InferRequestedOutput] | None:
    return None if binary is None else [triton.InferRequestedOutput(name, binary_data=binary)]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("binary_in", [True, False])
def test_tensors_go_in_and_out_in_every_form(
    client: triton.InferenceServerClient,
    tiny: TinyModel,
    binary_in: bool,
    binary_out: bool | None,
    compression: str | None,
) -> None:
    rows = tiny.rows(ROWS)
    result = client.infer(
        "tiny",
        [tensor("features", rows, binary=binary_in)],
        outputs=outputs("embedding", binary_out),
        request_id="frame 42",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows), atol=1e-5)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "frame 42")
    assert ("data" in answer["outputs"][0]) == (binary_out is False)


def test_the_asynchronous_clients_read_answers_too(
    server: Server, client: triton.InferenceServerClient, tiny: TinyModel
) -> None:
    rows = tiny.rows(3)
    waiting = [client.async_infer("tiny.context_encoder", [tensor("features", rows)]) for _ in range(4)]

    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(f"{server.host}:{server.port}") as other:
            assert await other.is_model_ready("tiny")
            assert (await other.get_model_metadata("tiny"))["name"] == "tiny"
            return await other.infer(
                "tiny.context_encoder", [tensor("features", rows)], response_compression_algorithm="gzip"
            )

    for result in (asyncio.run(ask()), *(each.get_result() for each in waiting)):
        np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows, "context"), atol=1e-5)


def test_a_raw_request_is_nothing_but_numbers(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    rows = tiny.rows(2)
    body, header = triton.InferenceServerClient.generate_request_body([tensor("features", rows)])
    raw = body[header:]
    assert raw == rows.tobytes()
    response = client._post("v2/models/tiny/infer", raw, {"Inference-Header-Content-Length": 0}, None)
    result = triton.InferenceServerClient.parse_response_body(
        response.read(), header_length=int(response.get("Inference-Header-Content-Length"))
    )
    np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows), atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_the_predictor_takes_patches_and_horizons_row_by_row(
    client: triton.InferenceServerClient, tiny: TinyModel, binary: bool
) -> None:
    context = tiny.encode(tiny.rows(3), "context")
    targets = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    horizon = np.array([6, 15, 6], np.float32)
    expected = tiny.predict(context, targets, horizon)
    for given in (
        [tensor("targets", targets, binary=binary), tensor("horizon", horizon, binary=binary)],
        [
            tensor("targets", targets.astype(bool), "BOOL", binary=binary),
            tensor("horizon", horizon.astype(np.int64)[:, None], "INT64", binary=binary),
        ],
    ):
        result = client.infer("tiny.predictor", [tensor("context", context, binary=binary), *given])
        np.testing.assert_allclose(result.as_numpy("prediction"), expected, atol=1e-5)
    alone = client.infer("tiny.predictor", [tensor("context", context, binary=binary)])
    whole = tiny.predict(context, np.ones((3, 2), np.float32), np.full(3, 6, np.float32))
    np.testing.assert_allclose(alone.as_numpy("prediction"), whole, atol=1e-5)


def test_the_loss_of_two_rows_is_one_number_each(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    now, later = tiny.rows(3), tiny.rows(3, seed=1)
    context = tiny.encode(now, "context")
    predicted = tiny.predict(context, np.ones((3, 2), np.float32), np.full(3, 6, np.float32))
    distance = np.abs(predicted - tiny.encode(later))
    expected = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(axis=1)
    inputs = [tensor("features", now), tensor("target_features", later)]
    result = client.infer("tiny.loss", inputs, parameters={"horizon": 6})
    np.testing.assert_allclose(result.as_numpy("losses"), expected, atol=1e-5)
    np.testing.assert_allclose(result.as_numpy("percentiles"), 100 * expected, atol=1e-3)
    without = client.infer("tiny.loss", inputs, parameters={"horizon": 15})
    assert [each["name"] for each in without.get_response()["outputs"]] == ["losses"]
    with pytest.raises(InferenceServerException, match="percentiles is not known at this horizon"):
        client.infer("tiny.loss", inputs, parameters={"horizon": 15}, outputs=outputs("percentiles", True))


@pytest.mark.parametrize("binary", [True, False])
def test_a_forecast_is_a_row_of_values(client: triton.InferenceServerClient, tiny: TinyModel, binary: bool) -> None:
    rows = tiny.rows(ROWS)
    features, wanted = [tensor("features", rows, binary=binary)], outputs("values", binary)
    now = client.infer("tiny.forecast", features, outputs=wanted)
    expected = np.stack([*tiny.values(tiny.encode(rows)).values()], axis=1)
    np.testing.assert_allclose(now.as_numpy("values"), expected, rtol=1e-4)
    options = {"horizon": 15, "heads": "speed, mood", "hidden": "own", "novelty": True}
    later = client.infer("tiny.forecast", features, parameters=options)
    unseen = rows.copy()
    unseen[:, :3] = np.nan
    ones, frames = np.ones((ROWS, 2), np.float32), np.full(ROWS, 15, np.float32)
    values = tiny.values(tiny.predict(tiny.encode(unseen, "context"), ones, frames), 2)
    expected = np.stack([values[name] for name in ("speed", "mood=calm", "mood=tense", "mood=wild")], axis=1)
    np.testing.assert_allclose(later.as_numpy("values"), expected, rtol=1e-4)
    measure = tiny.novelty()
    distances = np.linalg.norm((tiny.encode(unseen) - measure["mean"]) @ measure["whitening"], axis=1)
    novelty = np.interp(distances, measure["quantiles"], range(101))
    np.testing.assert_allclose(later.as_numpy("novelty"), novelty, rtol=1e-3)


def test_a_forecast_of_what_the_model_does_not_know_names_the_nearest(
    client: triton.InferenceServerClient, tiny: TinyModel
) -> None:
    features = [tensor("features", tiny.rows(1))]
    for options, message in (
        ({"heads": "airborn"}, "did you mean 'airborne'?"),
        ({"horizon": 14}, "the nearest is 15"),
        ({"encoder": "target"}, "encoder is not known here"),
    ):
        with pytest.raises(InferenceServerException, match=re.escape(message)):
            client.infer("tiny.forecast", features, parameters=options)
    with pytest.raises(InferenceServerException, match="novelty does not go with model 'tiny'; it takes only hidden"):
        client.infer("tiny", features, parameters={"novelty": True})
    with pytest.raises(InferenceServerException, match="its parameter is not set"):
        client.infer("tiny.forecast", features, outputs=outputs("novelty", True))


def test_groups_are_hidden_by_a_parameter(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    rows = tiny.rows(2)
    result = client.infer("tiny", [tensor("features", rows)], parameters={"hidden": "own, stage"})
    rows[:, :3] = rows[:, 8:] = np.nan
    np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows), atol=1e-5)


def test_what_the_client_may_say_beside_is_taken(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    result = client.infer(
        "tiny",
        [tensor("features", tiny.rows(1))],
        model_version="1",
        sequence_id=3,
        sequence_start=True,
        priority=1,
        timeout=10_000_000,
    )
    assert result.as_numpy("embedding").shape == (1, tiny.embed_dim)


def test_the_service_and_its_models_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny.loss")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("chess")
    about = client.get_server_metadata()
    assert about["name"] == "jepa-serve"
    assert {"binary_tensor_data", "statistics", "model_configuration"} <= set(about["extensions"])
    names = ["tiny", "tiny.context_encoder", "tiny.predictor", "tiny.loss", "tiny.forecast"]
    assert client.get_model_repository_index() == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]
    for name in names:
        metadata, config = client.get_model_metadata(name, "1"), client.get_model_config(name, "1")
        assert metadata["versions"] == ["1"]
        for tensors, configured in ((metadata["inputs"], config["input"]), (metadata["outputs"], config["output"])):
            for described, once_more in zip(tensors, configured, strict=True):
                assert described["name"] == once_more["name"]
                assert once_more["data_type"] == f"TYPE_{described['datatype']}"
                assert described["shape"] == [-1, *once_more.get("reshape", {"shape": once_more["dims"]})["shape"]]
        assert config["max_batch_size"] == 1024
    assert client.get_model_metadata("tiny")["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 10]}]
    optional = {each["name"]: each["optional"] for each in client.get_model_config("tiny.predictor")["input"]}
    assert optional == {"context": False, "targets": True, "horizon": True}


def test_statistics_add_up_over_all_processes(models: Path, tiny: TinyModel) -> None:
    with Server("--models", str(models), "--workers", "2") as server:
        for _ in range(6):  # each by a connection of its own, so that both processes have some
            with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
                client.infer("tiny.loss", [tensor(name, tiny.rows(5)) for name in ("features", "target_features")])
                with pytest.raises(InferenceServerException):
                    client.infer("tiny.loss", [tensor("features", tiny.rows(5))])
        with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
            (found,) = client.get_inference_statistics("tiny.loss")["model_stats"]
            everything = client.get_inference_statistics()["model_stats"]
    assert found in everything
    assert (found["name"], found["version"]) == ("tiny.loss", "1")
    assert found["inference_count"] == 30
    assert 1 <= found["execution_count"] <= 6
    assert found["last_inference"] > 1.7e12  # milliseconds
    parts = found["inference_stats"]
    assert parts["fail"]["count"] == 6
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert parts[part]["count"] == 6
    spent = sum(parts[part]["ns"] for part in ("compute_input", "compute_infer", "compute_output"))
    assert 0 < spent < parts["success"]["ns"]


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("chess", {"features": (1, 10)}, "there is no model of that name; loaded: 'tiny'"),
        ("tiny.decoder", {"features": (1, 10)}, "of 'tiny' there is 'tiny', 'tiny.context_encoder'"),
        ("tiny", {"features": (1, 11)}, "features has 11 numbers, model 'tiny' takes 10; if the last one is padding"),
        ("tiny", {"features": (10,)}, "has shape [10], model 'tiny' takes [-1, 10]; one row has shape [1, 10]"),
        ("tiny", {"features": (1, 1, 10)}, "one row has shape [1, 10]"),
        ("tiny", {"frames": (1, 10)}, "inputs[0] is no input of this model; it takes 'features'"),
        ("tiny.loss", {"features": (1, 10)}, "target_features is missing; the model takes it with shape [-1, 10]"),
        ("tiny.loss", {"features": (1, 10), "target_features": (2, 10)}, "send as many of one as of the other"),
        ("tiny", {"features": (2000, 10)}, "the request has 2000 rows, the limit is 1024"),
        ("tiny.predictor", {"context": (1, 4), "targets": (1, 3)}, "targets has 3 numbers, model 'tiny' takes 2"),
        ("tiny.predictor", {"context": (1, 4), "targets": (1, 2)}, "targets[0] is 0 throughout"),
        ("tiny.predictor", {"context": (1, 4), "horizon": (1,)}, "horizon 0 is none that model 'tiny' was trained for"),
    ],
)
def test_the_client_shows_what_was_wrong(
    client: triton.InferenceServerClient, model: str, given: dict[str, tuple[int, ...]], message: str
) -> None:
    inputs = [tensor(name, np.zeros(shape, np.float32)) for name, shape in given.items()]
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, inputs)
    assert message in refused.value.message()


def test_another_datatype_is_refused_with_the_way_to_convert_it(
    client: triton.InferenceServerClient, tiny: TinyModel
) -> None:
    for datatype, kind in (("FP64", np.float64), ("FP16", np.float16), ("INT64", np.int64)):
        with pytest.raises(InferenceServerException, match=rf"has datatype {datatype}.*\.astype\(numpy\.float32\)"):
            client.infer("tiny", [tensor("features", tiny.rows(1).astype(kind), datatype)])


def test_shared_memory_is_refused(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    shared = triton.InferInput("features", [1, 10], "FP32")
    shared.set_shared_memory("region", 40)
    with pytest.raises(InferenceServerException, match="shared memory, which is not offered"):
        client.infer("tiny", [shared])
    with pytest.raises(InferenceServerException, match="classification, which are not offered"):
        client.infer(
            "tiny",
            [tensor("features", tiny.rows(1))],
            outputs=[triton.InferRequestedOutput("embedding", class_count=2)],
        )

"""What Triton's gRPC client sends and reads; what it shares with REST, tests/app/api/oip/test_routes.py tests."""

import re
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from app.api.guard import Guard
from app.api.oip.grpc.messages import SERVICE, message
from app.api.oip.grpc.server import serving
from app.main import create_app
from app.settings import GRPC_PACKAGES, Settings
from tests.app.api.oip.grpc.conftest import KEY, address, answering, tensor
from tests.support.bundles import TinyModel
from tests.support.changes import put, served, version
from tests.support.serving import Server


def test_tensors_go_in_and_out(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    rows = tiny.rows(300)
    result = client.infer("tiny", [tensor("features", rows)], request_id="frame 42", model_version="1")
    np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows), atol=1e-5)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "frame 42")
    asked = [triton.InferRequestedOutput("embedding")]
    again = client.infer(
        "tiny.context_encoder", [tensor("features", rows)], outputs=asked, compression_algorithm="gzip"
    )
    np.testing.assert_allclose(again.as_numpy("embedding"), tiny.encode(rows, "context"), atol=1e-5)


def test_groups_are_hidden_by_a_parameter(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    rows = tiny.rows(2)
    result = client.infer("tiny", [tensor("features", rows)], parameters={"hidden": "own, stage"})
    rows[:, :3] = rows[:, 8:] = np.nan
    np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(rows), atol=1e-5)


def test_the_predictor_and_the_loss_take_what_they_take_over_rest(
    client: triton.InferenceServerClient, tiny: TinyModel
) -> None:
    now, later = tiny.rows(3), tiny.rows(3, seed=1)
    context, targets = tiny.encode(now, "context"), np.array([[1, 0], [0, 1], [1, 1]], bool)
    horizon = np.array([6, 15, 6], np.int64)
    inputs = [tensor("context", context), tensor("targets", targets, "BOOL"), tensor("horizon", horizon, "INT64")]
    predicted = client.infer("tiny.predictor", inputs).as_numpy("prediction")
    np.testing.assert_allclose(
        predicted, tiny.predict(context, targets.astype(np.float32), horizon.astype(np.float32)), atol=1e-5
    )
    pair = [tensor("features", now), tensor("target_features", later)]
    losses = client.infer("tiny.loss", pair, parameters={"horizon": 15})
    assert [each.name for each in losses.get_response().outputs] == ["losses"]
    assert losses.as_numpy("losses").shape == (3,)


def test_a_forecast_takes_what_it_takes_over_rest(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    rows = tiny.rows(3)
    options = {"horizon": 6, "heads": "damage,airborne", "novelty": True}
    forecast = client.infer("tiny.forecast", [tensor("features", rows)], parameters=options)
    context = tiny.encode(rows, "context")
    predicted = tiny.predict(context, np.ones((3, 2), np.float32), np.full(3, 6, np.float32))
    values = tiny.values(predicted, 1)
    np.testing.assert_allclose(
        forecast.as_numpy("values"), np.stack([values["damage"], values["airborne"]], axis=1), rtol=1e-4
    )
    assert forecast.as_numpy("novelty").shape == (3,)
    with pytest.raises(InferenceServerException, match="did you mean 'damage'"):
        client.infer("tiny.forecast", [tensor("features", rows)], parameters={"heads": "damag"})


def typed(tiny: TinyModel, **more: Any) -> Any:
    rows = tiny.rows(2)
    contents = {"fp32_contents": rows.ravel().tolist()}
    features = {"name": "features", "datatype": "FP32", "shape": rows.shape, "contents": contents}
    return message("ModelInferRequest")(model_name="tiny", inputs=[features], **more)


def ask(server: Server, request: Any) -> Any:
    with grpc.insecure_channel(address(server)) as channel:
        codec = type(request).SerializeToString, message("ModelInferResponse").FromString
        return channel.unary_unary(f"/{SERVICE}/ModelInfer", *codec).with_call(request, timeout=10)


def test_tensors_may_come_as_typed_contents(server: Server, tiny: TinyModel) -> None:
    answer, call = ask(server, typed(tiny))
    (raw,) = answer.raw_output_contents
    np.testing.assert_allclose(np.frombuffer(raw, "<f4").reshape(2, -1), tiny.encode(tiny.rows(2)), atol=1e-5)
    trailing = dict(call.trailing_metadata())
    assert trailing["x-batch-rows"] == "2"
    assert trailing["x-request-id"]
    assert "infer;dur=" in trailing["server-timing"]


def test_raw_contents_must_be_as_many_as_the_inputs(server: Server, tiny: TinyModel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ask(server, typed(tiny, raw_input_contents=[b"", b""]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "there are 2 raw_input_contents for 1 inputs" in refused.value.details()


def test_numbers_that_come_both_ways_are_refused_as_over_rest(server: Server, tiny: TinyModel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ask(server, typed(tiny, raw_input_contents=[tiny.rows(2).tobytes()]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inputs[0] has both contents and raw_input_contents; send its numbers once" in refused.value.details()


@pytest.mark.parametrize(
    ("model", "values", "code", "text"),
    [
        ("chess", np.zeros((1, 10)), "NOT_FOUND", "there is no model of that name; loaded: 'tiny'"),
        ("tiny.decoder", np.zeros((1, 10)), "NOT_FOUND", "of 'tiny' there is 'tiny', 'tiny.context_encoder'"),
        ("tiny", np.zeros((1, 11)), "INVALID_ARGUMENT", "features has 11 numbers, model 'tiny' takes 10; if the last"),
        ("tiny", np.full((1, 10), np.nan), "INVALID_ARGUMENT", "features[0][0] (own_0) is NaN"),
        ("tiny", np.zeros((2000, 10)), "INVALID_ARGUMENT", "the request has 2000 rows, the limit is 1024"),
        ("tiny.loss", np.zeros((1, 10)), "INVALID_ARGUMENT", "target_features is missing"),
    ],
)
def test_what_is_wrong_comes_as_a_code_and_in_words(
    client: triton.InferenceServerClient, model: str, values: np.ndarray, code: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [tensor("features", values.astype(np.float32))])
    assert refused.value.status() == f"StatusCode.{code}"
    assert text in refused.value.message()


def test_another_datatype_is_refused_with_the_way_to_convert_it(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"has datatype FP64.*\.astype\(numpy\.float32\)"):
        client.infer("tiny", [tensor("features", np.zeros((1, 10)), "FP64")])


def test_a_stream_answers_in_turn_and_outlives_a_refusal(client: triton.InferenceServerClient, tiny: TinyModel) -> None:
    answered: list[Any] = []
    client.start_stream(lambda result, error: answered.append(error or result))
    for rows in (tiny.rows(1), np.zeros((1, 11), np.float32), tiny.rows(2)):
        client.async_stream_infer("tiny", [tensor("features", rows)])
    client.stop_stream()
    first, refused, last = answered
    assert "features has 11 numbers" in str(refused)
    for result, count in ((first, 1), (last, 2)):
        np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(tiny.rows(count)), atol=1e-5)


def test_the_service_and_its_models_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny.loss", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("chess")
    assert client.get_server_metadata().name == "jepa-serve"
    (row,) = client.get_model_repository_index().models
    assert (row.name, row.version, row.state) == ("tiny", "1", "READY")
    for name in ("tiny", "tiny.context_encoder", "tiny.predictor", "tiny.loss", "tiny.forecast"):
        metadata, config = client.get_model_metadata(name), client.get_model_config(name).config
        assert (config.name, config.max_batch_size) == (name, 1024)
        assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
        for described, configured in zip(metadata.inputs, config.input, strict=True):
            assert described.name == configured.name
            kind = model_config_pb2.DataType.Name(configured.data_type)
            assert kind == f"TYPE_{described.datatype}"
            dims = configured.reshape.shape if configured.HasField("reshape") else configured.dims
            assert [*described.shape] == [-1, *dims]
    optional = {each.name: each.optional for each in client.get_model_config("tiny.predictor").config.input}
    assert optional == {"context": False, "targets": True, "horizon": True}


def test_statistics_are_those_of_rest_and_calls_are_counted(
    server: Server, client: triton.InferenceServerClient, tiny: TinyModel
) -> None:
    client.infer("tiny", [tensor("features", tiny.rows(5))])
    (found,) = client.get_inference_statistics("tiny").model_stats
    assert found.inference_stats.success.count >= 1
    assert found.inference_count >= 5
    (rest,) = httpx.get(f"{server.url}/v2/models/tiny/stats").json()["model_stats"]
    assert rest["inference_count"] == found.inference_count
    assert len(client.get_inference_statistics().model_stats) == 5
    text = httpx.get(f"{server.url}/metrics").text
    assert re.search(rf'jepa_http_requests_total{{method="GRPC",route="/{SERVICE}/ModelInfer",status="200"}}', text)


def test_models_are_not_changed_unless_a_setting_allows_it(client: triton.InferenceServerClient) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="unless JEPA_MODEL_CONTROL is true") as refused:
            change("tiny")
        assert refused.value.status() == "StatusCode.PERMISSION_DENIED"


def test_models_are_loaded_and_unloaded_and_a_lone_process_stops_with_its_grpc_server(tmp_path: Path) -> None:
    put(version(1), tmp_path)
    flags = ("--models", str(tmp_path), "--workers", "1", "--watch-s", "0", "--model-control", "--grpc-port", "0")
    with Server(*flags) as server, triton.InferenceServerClient(address(server)) as client:
        client.unload_model("tiny")
        assert served(server) == {503}
        assert not client.is_server_ready()
        client.load_model("tiny")
        assert served(server) == {1}
        with pytest.raises(InferenceServerException, match=r"parameters\.config: Extra inputs are not"):
            client.load_model("tiny", config="{}")
        with pytest.raises(InferenceServerException) as unknown:
            client.load_model("chess")
        assert unknown.value.status() == "StatusCode.NOT_FOUND"
        assert server.stop() == 0


@pytest.mark.anyio
async def test_keys_are_metadata_and_probes_need_none(models: Path, tiny: TinyModel) -> None:
    async with answering(models, api_keys=KEY) as (client, service):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        for headers in ({}, {"x-api-key": "wrong-key-0123456789"}):
            with pytest.raises(InferenceServerException) as refused:
                await client.infer("tiny", [tensor("features", tiny.rows(1))], headers=headers)
            assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
            result = await client.infer("tiny", [tensor("features", tiny.rows(1))], headers=headers)
            assert result.as_numpy("embedding").shape == (1, 4)
        text = service.telemetry.text().decode()
        assert f'route="/{SERVICE}/ModelInfer",status="401"}} 2.0' in text
        assert 'rejected_total{reason="unauthorized"} 2.0' in text


@pytest.mark.anyio
async def test_a_certificate_holds_for_grpc_too(models: Path, tiny: TinyModel, certified: tuple[Path, Path]) -> None:
    certificate, key = certified
    settings = Settings(models=models, grpc_port=0, tls_cert_file=certificate, tls_key_file=key)
    service = create_app(settings).state.service
    service.open()
    async with (
        serving(service, Guard(service)) as port,
        triton_aio.InferenceServerClient(f"127.0.0.1:{port}", ssl=True, root_certificates=str(certificate)) as client,
    ):
        result = await client.infer("tiny", [tensor("features", tiny.rows(2))])
        np.testing.assert_allclose(result.as_numpy("embedding"), tiny.encode(tiny.rows(2)), atol=1e-5)
    service.close()


@pytest.mark.parametrize(("module", "package"), GRPC_PACKAGES.items())
def test_grpc_without_its_extra_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setattr("app.settings.find_spec", lambda name: None if name == module else name)
    with pytest.raises(ValueError, match=rf"grpc_port needs {package}; install it with: pip install .* '\.\[grpc\]'"):
        Settings(grpc_port=8001)


def test_a_port_that_is_taken_is_named(server: Server, models: Path) -> None:
    port = address(server).partition(":")[2]
    other = Server("--models", str(models), "--grpc-port", port)
    with pytest.raises(RuntimeError, match=f"port {port} is taken by another process; .* --grpc-port {int(port) + 1}"):
        other.__enter__()
    other.__exit__()

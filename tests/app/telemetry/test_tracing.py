"""Traces of a real service, as a collector gets them."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import httpx
import pytest

from app.telemetry import tracing
from bundle.install import how_to_install
from tests.support.bundles import TinyModel
from tests.support.collector import Collector, collecting, values
from tests.support.serving import FAILS_ON_THIRTEEN, ROOT, Server

PARENT = "00f067aa0ba902b7"
BODY = {"features": [0.5] * 10}


def asked(number: int, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{PARENT}-{sampled:02x}", "x-request-id": f"r{number}"}


def test_a_request_is_a_span_of_its_callers_trace_and_its_queue_and_runs_are_within(models: Path) -> None:
    flags = ("--models", str(models), "--workers", "2", "--log-format", "json", "--access-log")
    with collecting() as collector, Server(*flags, env=collector.env, before=FAILS_ON_THIRTEEN) as server:
        rows = TinyModel().rows(3).tolist()
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 10], "data": [0.5] * 10}
        httpx.post(f"{server.url}/embed", json={"features": rows}, headers=asked(1))
        httpx.post(f"{server.url}/predict", content=iter([json.dumps(BODY).encode()]), headers=asked(2))  # the long way
        httpx.post(f"{server.url}/v2/models/tiny/infer", json={"inputs": [tensor]}, headers=asked(3))
        httpx.post(f"{server.url}/embed", json={"features": []}, headers=asked(4))
        httpx.post(f"{server.url}/embed", json=BODY, headers=asked(5, sampled=False))
        httpx.get(f"{server.url}/readyz", headers=asked(6))
        httpx.post(f"{server.url}/embed", json=BODY)
        httpx.post(f"{server.url}/embed", json={"features": [13.0] * 10}, headers=asked(7))
        assert server.stop() == 0  # the last spans are sent before the end
        traced = {int(span.trace_id.hex(), 16) for span in collector.spans if span.name.startswith("POST")}
        assert len(traced) == 6
        assert {1, 2, 3, 4, 7} <= traced
        assert not collector.of(f"{6:032x}")
        check_embed(collector)
        assert sorted(collector.of(f"{2:032x}")) == ["POST /predict", "infer", "queue"]
        assert len(collector.of(f"{2:032x}")["infer"]) == 2  # of the encoder and of the predictor
        assert "POST /v2/models/{name}/infer" in collector.of(f"{3:032x}")
        (refused,) = collector.of(f"{4:032x}")["POST /embed"]
        assert values(refused.attributes)["http.response.status_code"] == 422
        assert refused.status.code == refused.status.STATUS_CODE_UNSET  # the client's fault
        failed = {name: span.status.code for name, (span,) in collector.of(f"{7:032x}").items()}
        assert failed == {"POST /embed": 2, "queue": 0, "infer": 2}
        assert all(each["service.name"] == "jepa-serve" for each in collector.resources)
        lines = [json.loads(line) for line in server.log.splitlines()]
        ids = {line["request_id"]: line.get("trace_id") for line in lines if line["logger"] == "app.access"}
        assert ids["r1"] == f"{1:032x}"
        assert ids["r5"] is None


def check_embed(collector: Collector) -> None:
    found = collector.of(f"{1:032x}")
    (request,), (queue,), (infer,) = found["POST /embed"], found["queue"], found["infer"]
    assert request.kind == request.SPAN_KIND_SERVER
    assert request.parent_span_id.hex() == PARENT
    about = values(request.attributes)
    assert about["http.response.status_code"] == 200
    assert about["http.route"] == "/embed"
    assert about["jepa.request_id"] == "r1"
    for span in (queue, infer):
        assert span.parent_span_id == request.span_id
        assert values(span.attributes) == {"jepa.queue": "tiny target_encoder", "jepa.batch.rows": 3}
    moments = [request.start_time_unix_nano, queue.start_time_unix_nano, queue.end_time_unix_nano]
    moments += [infer.end_time_unix_nano, request.end_time_unix_nano]
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; there is otlp, console, none"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTLP is spoken as http/protobuf, to port 4318 of most collectors, not as grpc",
        ),
    ],
)
def test_traces_that_cannot_be_sent_are_no_reason_not_to_serve(
    env: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert tracing.open_tracing() is None
    assert f"no traces: {message}" in caplog.text


def test_without_the_libraries_the_service_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert tracing.open_tracing() is None
    assert "no traces: opentelemetry.sdk" in caplog.text
    assert f"is not installed; {how_to_install('otel')}" in caplog.text


def test_a_collector_that_is_down_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MAX_FLUSH_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes spans, and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        opened = tracing.open_tracing()
        assert opened is not None
        request = opened.begin({}, "POST", "/embed", monotonic())
        assert request is not None
        request.end("r1", "POST", "/embed", 200)
        opened.close()
        assert [thread.name for thread in threading.enumerate() if "shutdown" in thread.name]  # it is still waited for


def test_unless_asked_for_its_libraries_are_not_even_loaded() -> None:
    program = (
        "import sys, app.main, app.telemetry.tracing; assert app.telemetry.tracing.open_tracing() is None; "
        "assert 'opentelemetry.sdk' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("env", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_what_switches_traces_off_is_stronger_than_an_endpoint(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **env}.items():
        monkeypatch.setenv(name, value)
    assert tracing.open_tracing() is None

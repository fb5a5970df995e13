"""`jepa bench` against a real service."""

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.support.serving import Server


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.mark.parametrize("endpoint", ["embed", "predict", "forecast", "loss"])
@pytest.mark.parametrize("body", ["json", "binary"])
def test_every_endpoint_is_loaded_in_both_forms(server, endpoint, body):
    done = bench(server.url, "--endpoint", endpoint, "--body", body, "--rows", 3, "--connections", 2, "--seconds", 0.1)
    assert done.exit_code == 0, done.output
    assert "3 rows a request" in done.output
    assert "for 0.1 s" in done.output
    assert "an empty request to this service takes this client" in done.output
    assert "requests/s" in done.output
    assert "errors" not in done.output


def test_bots_send_every_frame_and_the_result_is_written(server, tmp_path):
    out, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    done = bench(server.url, "--bots", 3, "--hz", 50, "--seconds", 0.4, "--out", out, "--plot", plot)
    assert done.exit_code == 0, done.output
    assert "open loop, 3 connections at 50 Hz" in done.output
    assert "(over 20.00 ms, or failed)" in done.output
    result = json.loads(out.read_text())
    assert result["requests"] == 60
    assert result["errors"] == {}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_rate_is_spread_over_the_connections(server):
    done = bench(server.url, "--rate", 100, "--connections", 4, "--seconds", 0.4)
    assert "4 connections at 25 Hz" in done.output
    assert "\n40 requests" in done.output


def test_a_condition_that_holds_is_exit_code_1(server):
    done = bench(server.url, "--seconds", 0.1, "--fail-if", "p50>0ms", "--fail-if", "errors>0%")
    assert done.exit_code == 1
    assert "failed: p50 is " in done.output
    assert "failed: errors" not in done.output


def test_refused_requests_are_counted_by_status(server):
    done = bench(server.url, "--rows", 2000, "--seconds", 0.1, "--fail-if", "errors>0%")
    assert done.exit_code == 1
    assert " × 413" in done.output


def test_a_picture_without_matplotlib_is_refused_before_the_load(server, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.bench.bench.find_spec", lambda _: None)
    done = bench(server.url, "--plot", tmp_path / "bench.png")
    assert done.exit_code == 2
    assert "--plot needs matplotlib; install it with" in done.output
    assert "requests/s" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:9"], "no jepa-serve answers at http://127.0.0.1:9"),
        (["URL", "--model", "pong"], "there is no model 'pong'; the service has melee"),
        (["URL", "--fail-if", "fast"], "'fast' is no condition"),
        (["URL", "--rate", "60", "--bots", "2"], "give --rate, for requests a second in all, or --bots"),
        *((["URL", option, "0"], f"Invalid value for '{option}'") for option in ("--rate", "--hz", "--seconds")),
    ],
)
def test_what_cannot_be_loaded_is_exit_code_2(server, arguments, message):
    done = bench(*(server.url if argument == "URL" else argument for argument in arguments))
    assert done.exit_code == 2
    assert message in done.output


def test_a_service_that_wants_a_key_is_loaded_with_one():
    key = "key-0123456789abcdef"
    with Server(env={"JEPA_API_KEYS": key}) as server:
        done = bench(server.url, "--seconds", 0.1)
        assert done.exit_code == 2
        assert f"{server.url} wants a key; give it one with --api-key" in done.output
        done = bench(server.url, "--seconds", 0.1, "--api-key", key, "--fail-if", "errors>0%")
        assert done.exit_code == 0, done.output

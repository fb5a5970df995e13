"""What is logged, to the last byte: by a service whose model fails on some rows and whose code fails on one request."""

import fcntl
import json
import logging
import os
import sys
from pathlib import Path

import httpx
import pytest

from app.system.counters import Ledger
from app.telemetry.logs import Json, Lines, Text
from app.telemetry.request_context import RequestContext, current_request
from tests.support.serving import FAILS_ON_THIRTEEN, Server

FAILS = f"""{FAILS_ON_THIRTEEN}
import warnings
import app.api.native.routes

def details(*_):
    raise KeyError("a bug")

app.api.native.routes.details = details
warnings.warn("look out")
"""


def test_every_line_is_json_and_says_whose_request_it_is_about(models: Path) -> None:
    flags = ("--models", str(models), "--workers", "2", "--log-format", "json", "--access-log")
    with Server(*flags, before=FAILS) as server:
        wrong = {"features": [13.0] * 10}

        def ask(path: str, request_id: str, **body: object) -> httpx.Response:
            return httpx.post(f"{server.url}{path}", json=body, headers={"x-request-id": request_id})

        assert ask("/embed", "short-way", **wrong).status_code == 500
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 10], "data": [13.0] * 10}
        assert ask("/v2/models/tiny/infer", "long-way", inputs=[tensor]).status_code == 500
        bug = httpx.get(f"{server.url}/models/tiny", headers={"x-request-id": "bug"})
        assert (bug.status_code, bug.headers["x-request-id"]) == (500, "bug")
        with server.connect() as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert server.stop() == 0
    # Before it knows its settings, Python itself warns in its own form.
    lines = [json.loads(line) for line in server.log.splitlines() if "look out" not in line]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    failed = {line["request_id"]: line for line in lines if line["level"] == "error"}
    assert failed.keys() == {"short-way", "long-way", "bug"}
    assert "RuntimeError: thirteen" in failed["short-way"]["exception"]
    assert failed["long-way"]["message"] == "a run of 1 rows failed"
    assert "KeyError: 'a bug'" in failed["bug"]["exception"]
    asked = {line["request_id"]: line["status"] for line in lines if line["logger"] == "app.access"}
    assert asked == dict.fromkeys(failed, 500)
    assert any("Invalid HTTP request" in line["message"] for line in lines)
    assert any(line["message"].startswith("serving tiny version 1") for line in lines)


def record(message: str) -> logging.LogRecord:
    try:
        raise ValueError("why")
    except ValueError:
        return logging.LogRecord("app.x", logging.ERROR, __file__, 1, message, (), sys.exc_info())


def test_people_read_the_id_at_the_end_of_the_line() -> None:
    token = current_request.set(RequestContext(b"abc"))
    text = Text().format(record("it failed"))
    current_request.reset(token)
    first, *rest = text.splitlines()
    assert first.endswith(" ERROR it failed [request abc]")
    assert rest[-1] == "    ValueError: why"
    assert "request" not in Text().format(record("it failed")).splitlines()[0]


@pytest.mark.parametrize("end", ["\n", "\r", "\x1b[2K", "\x85", "\u2028", "\u202e"])
def test_what_a_client_sends_ends_no_line(end: str) -> None:
    forged = f"x{end}2026-01-01 00:00:00,000 CRITICAL forged"
    try:
        raise ValueError(forged)
    except ValueError:
        entry = logging.LogRecord("app.x", logging.ERROR, __file__, 1, "no model %s", (forged,), sys.exc_info())
    first, *rest = Text().format(entry).splitlines()
    assert first.count(" CRITICAL forged") == 1
    assert all(line.startswith("    ") for line in rest)
    assert end == "\n" or end not in Text().format(entry)


def test_a_path_from_outside_is_one_short_line_of_the_log(models: Path) -> None:
    fails = "import app.repository.registry\napp.repository.registry.Registry.get = lambda *_: 1 / 0"
    with Server("--models", str(models), before=fails) as server:
        answer = httpx.get(f"{server.url}/models/a%0a2026-01-01%20CRITICAL%20forged{'x' * 5000}")
        assert answer.status_code == 500
        assert server.stop() == 0
    (line,) = (line for line in server.log.splitlines() if "forged" in line)
    assert "ERROR the service failed on a request to /models/a\\x0a2026-01-01 CRITICAL forged" in line
    assert len(line) < 1000


def test_what_is_no_text_is_json_all_the_same() -> None:
    line = json.loads(Json().format(record("half a pair: \ud800, a line\nand another")))
    assert line["message"] == "half a pair: \ud800, a line\nand another"


def test_a_reader_that_stops_holds_nobody_up_and_what_it_misses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Ledger().counter("lost", "Lines").cell()
    reader, writer = os.pipe()
    monkeypatch.setattr("app.telemetry.logs.STDERR", writer)
    lines = Lines(lost)
    room = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    for _ in range(2 * room // 1000):
        lines.emit(logging.LogRecord("app.x", logging.INFO, __file__, 1, "x" * 999, (), None))
    assert lost.on(0) >= room // 1000 - 8
    os.read(reader, room)
    missed = lost.on(0)
    lines.emit(logging.LogRecord("app.x", logging.INFO, __file__, 1, "again", (), None))
    assert os.read(reader, room) == b"again\n"
    assert lost.on(0) == missed
    os.close(reader)  # and now it is gone
    lines.emit(logging.LogRecord("app.x", logging.INFO, __file__, 1, "nobody", (), None))
    assert lost.on(0) == missed + 1
    os.close(writer)

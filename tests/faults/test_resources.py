"""What a machine may run out of, or take away, while bots ask."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Survived
from tests.support.bundles import TinyModel
from tests.support.changes import served, until
from tests.support.load import BINARY, Load
from tests.support.serving import Server
from tests.support.wire import Wire

MANY = TinyModel().rows(200_000).tobytes()
READ_ONLY = ["unshare", *(["--map-root-user"] * (os.getuid() != 0)), "--mount", "sh", "-c"]
READ_ONLY += ['mount -o remount,bind,ro / && exec "$@"', "sh"]
DISK_FULL, DISK_FREE, CLOCK_AHEAD, CLOCK_BACK, SHORT, NOT_SHORT = range(signal.SIGRTMIN + 1, signal.SIGRTMIN + 7)
# What each of these signals does to the service. No file may grow, wherever it is.
FAULTS = f"""
import os, resource, signal, time
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
log, full = os.dup(2), os.open("/dev/full", os.O_WRONLY)
signal.signal({DISK_FULL}, lambda *_: os.dup2(full, 2))
signal.signal({DISK_FREE}, lambda *_: os.dup2(log, 2))

wall, wall_ns, ahead_s = time.time, time.time_ns, [0]
time.time, time.time_ns = lambda: wall() + ahead_s[0], lambda: wall_ns() + ahead_s[0] * 10**9
signal.signal({CLOCK_AHEAD}, lambda *_: ahead_s.__setitem__(0, 86400))
signal.signal({CLOCK_BACK}, lambda *_: ahead_s.__setitem__(0, -86400))

import app.inference.batcher
execute, most_rows = app.inference.batcher.execute, [1000]

def execute_if_there_is_memory(run, batch, clock):
    def run_or_fail(*inputs):
        if len(inputs[0]) > most_rows[0]:
            raise MemoryError
        return run(*inputs)

    return execute(run_or_fail, batch, clock)

app.inference.batcher.execute = execute_if_there_is_memory
signal.signal({SHORT}, lambda *_: most_rows.__setitem__(0, 3))
signal.signal({NOT_SHORT}, lambda *_: most_rows.__setitem__(0, 1000))
"""


@pytest.fixture(scope="module")
def mounts_read_only() -> bool:
    command = [*READ_ONLY, "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def server(models: Path, mounts_read_only: bool) -> Iterator[Server]:
    flags = ("--models", str(models), "--workers", "1", "--access-log")
    with Server(*flags, before=FAULTS, within=READ_ONLY if mounts_read_only else ()) as server:
        yield server
        assert server.stop() == 0


def metric(server: Server, name: str) -> float:
    return float(re.search(rf"^{name} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)[1])  # type: ignore[index]


def processes(server: Server) -> list[int]:
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def embed_many(server: Server) -> int:
    """The status, or 0 where the connection ended."""
    try:
        return httpx.post(f"{server.url}/embed", content=MANY, headers={"content-type": BINARY}, timeout=60).status_code
    except httpx.TransportError:
        return 0


def test_without_memory_large_requests_are_refused_and_small_ones_answered(models: Path, survived: Survived) -> None:
    flags = ("--workers", "1", "--max-rows", "200000", "--max-queue-rows", "400000", "--max-body-bytes", str(2**26))
    with Server("--models", str(models), *flags) as server, Load(server, 8) as load:
        pid = server.process.pid
        used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (used + 2**21, resource.RLIM_INFINITY))
        statuses = Counter(embed_many(server) for _ in range(3))
        load.go_on()
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert embed_many(server) == 200
        assert metric(server, "jepa_http_requests_in_flight") <= 8
    assert statuses.keys() <= {0, 500, 503}
    assert statuses[503]
    assert load.lost == load.cut == 0
    survived(
        "no memory for large requests", load, note=f"{statuses[503]} of {statuses.total()} told to send fewer rows"
    )


def test_a_run_without_memory_fails_alone(server: Server, survived: Survived) -> None:
    server.process.send_signal(SHORT)
    with Load(server) as load:
        alone = httpx.post(f"{server.url}/embed", json={"features": TinyModel().rows(4).tolist()})
        load.go_on()
    server.process.send_signal(NOT_SHORT)
    assert alone.status_code == 500
    assert "MemoryError" in alone.json()["detail"]
    assert load.refused.total() == load.lost == load.cut == 0  # of the batches that failed each request ran by itself
    survived("runs of more than three rows find no memory", load)


def test_a_full_disk_stops_nothing(server: Server, survived: Survived) -> None:
    with Load(server) as load:
        before = metric(server, "jepa_log_lines_lost_total")
        server.process.send_signal(DISK_FULL)
        load.go_on()
        until(lambda: metric(server, "jepa_log_lines_lost_total") > before + 100)
        server.process.send_signal(DISK_FREE)
        httpx.get(f"{server.url}/models", headers={"x-request-id": "room-again"})
        until(lambda: "room-again" in server.log)
        missed = metric(server, "jepa_log_lines_lost_total") - before
    assert load.refused.total() == load.cut == load.lost == 0
    survived("the disk is full", load, note=f"{missed:,.0f} lines of the log lost; no file is written")


def test_a_read_only_root_is_enough(server: Server, mounts_read_only: bool, survived: Survived) -> None:
    if not mounts_read_only:
        pytest.skip("needs unshare, and the right to mount")
    assert not os.access(f"/proc/{server.process.pid}/root/tmp", os.W_OK)
    with Load(server) as load:
        load.go_on()
    assert load.refused.total() == load.cut == load.lost == 0
    survived("a read-only root, models folder and /tmp", load)


def test_a_clock_that_jumps_is_not_noticed(server: Server, survived: Survived) -> None:
    with Load(server) as load, server.connect() as idle:
        for jump in (CLOCK_AHEAD, CLOCK_BACK):
            server.process.send_signal(jump)
            load.go_on()
            hurried = httpx.post(
                f"{server.url}/embed", json={"features": [0.5] * 10}, headers={"x-request-timeout-ms": "10000"}
            )
            assert hurried.status_code == 200, hurried.text
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert load.refused.total() == load.cut == load.lost == 0
    survived("the clock goes a day ahead, then two days back", load)


def test_a_folder_that_cannot_be_listed_hides_no_other(tmp_path: Path, survived: Survived) -> None:
    models = tmp_path / "models"
    TinyModel().write(models)
    # Both are there before the start and come while it runs; links to themselves, since root may list any folder.
    (models / "lost+found").symlink_to("lost+found")
    flags = ("--models", str(models), "--workers", "2", "--watch-s", "1")
    with Server(*flags) as server, Load(server) as load:
        (models / "volume").symlink_to("volume")
        (models / "tiny" / "2").symlink_to("2")
        TinyModel(version=3).write(tmp_path / "staged").rename(models / "tiny" / "3")
        until(lambda: Counter(served(server)) == {3: 1})
        load.go_on()
        assert {each["bundle"] for each in httpx.get(f"{server.url}/models").json()["refused"]} == {"volume", "tiny/2"}
        assert server.log.count("skipped ") == 1
        assert server.stop() == 0
    assert load.lost == load.cut == 0
    survived("folders that cannot be listed", load)


def test_an_offer_to_upgrade_is_ignored(server: Server, survived: Survived) -> None:
    offers = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: upgrade\r\nUpgrade: TLS/1.3, HTTP/3",
    ]
    infer = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 10], "data": [0.5] * 10}]}
    bodies = {"/embed": {"features": [0.5] * 10}, "/v2/models/tiny/infer": infer, "/v2/repository/index": {}}
    answered = 0
    with Load(server) as load, Wire(server.host, server.port) as wire:
        for offer in offers:
            for path, document in bodies.items():
                body = json.dumps(document)
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{offer}\r\n"
                wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                assert wire.read().status == 200, (offer, path)
                answered += 1
        load.go_on()
        assert wire.rest == b""
    assert load.refused.total() == load.cut == load.lost == 0
    survived("offers to upgrade", load, note=f"{answered} ignored on one connection, each with its body")


def test_too_many_open_files_cost_new_connections_only(models: Path, survived: Survived) -> None:
    with Server("--models", str(models), "--workers", "2") as server, Load(server) as load:
        for pid in processes(server):
            room = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 4
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, 4096))
        connections = [socket.create_connection((server.host, server.port), timeout=20) for _ in range(40)]
        load.go_on()
        for connection in connections:
            connection.close()
        for pid in processes(server):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (4096, 4096))
        until(lambda: Counter(served(server, count=16)) == {1: 1})
        assert len(processes(server)) == 3
        assert server.stop() == 0
    assert load.lost == 0
    survived("too many open files", load)

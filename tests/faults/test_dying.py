"""Processes that end, as they should and as they should not, while bots ask."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Survived
from tests.support.changes import until
from tests.support.load import Load
from tests.support.serving import Server

BOTS = 16
# On SIGUSR1 the event loop of a process stands still, on SIGUSR2 its batch thread does; a second or two show it.
STUCK = """
import signal, time
import app.inference.batcher, app.inference.batch_limits, app.service, app.server.watchdog, app.server.workers
app.server.watchdog.MAX_STILL_LOOKS, app.server.workers.MAX_STILL_LOOKS_OF_PARENT = 7, 10
app.service.MAX_RUN_S = 0.5
app.inference.batch_limits.MAX_LOOP_BLOCK_S = 0  # so that there is work for batch threads

def stand_still(*_):
    time.sleep(600)

signal.signal(signal.SIGUSR1, stand_still)
signal.signal(signal.SIGUSR2, lambda *_: setattr(app.inference.batcher, "execute", stand_still))
"""


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "2", before=STUCK) as server:
        yield server


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("number", "fault", "logged"),
    [
        (signal.SIGKILL, "kill -9 of a worker", "ended with code -9; another takes its place"),
        (signal.SIGUSR1, "an event loop stands still", "ended with code 70; another takes its place"),
        (signal.SIGUSR2, "a batch thread does not come back", "ended with code 70; another takes its place"),
        (signal.SIGSTOP, "a worker is stopped", "stands still, and is killed"),
    ],
)
def test_only_what_a_worker_was_at_is_cut_off_and_another_takes_its_place(
    server: Server, number: signal.Signals, fault: str, logged: str, survived: Survived
) -> None:
    dying, other = children(server)
    with Load(server, BOTS) as load:
        began = time.monotonic()
        os.kill(dying, number)
        until(lambda: dying not in children(server) and len(children(server)) == 2)
        replaced_s = time.monotonic() - began
        load.go_on()
    assert other in children(server)
    assert logged in server.log
    # This worker had half of the connections, and may have been handed one of them anew before it was buried.
    assert load.cut <= BOTS // 2 + 4
    assert load.refused.total() == load.lost == 0
    survived(fault, load, note=f"replaced after {replaced_s:.1f} s")
    until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_cuts_nobody_off(models: Path, workers: int, survived: Survived) -> None:
    with Server("--models", str(models), "--workers", str(workers)) as server, Load(server, BOTS) as load:
        began = time.monotonic()
        assert server.stop() == 0
        ended_s = time.monotonic() - began
    assert load.refused.keys() <= {503}
    assert load.cut == load.lost == 0
    survived(f"SIGTERM, {workers} process{'es' * (workers > 1)}", load, note=f"exit code 0 after {ended_s:.1f} s")

"""A process that no longer moves, though it lives."""

import signal
from pathlib import Path

from app.server.watchdog import HUNG_EXIT_CODE, MAX_STILL_LOOKS, Pulse
from app.system.counters import Ledger
from tests.support.serving import Server

# On SIGUSR1 the event loop of a process stands still, on SIGUSR2 the next run; two looks are enough to see it.
STUCK = """
import signal, sys, time
import app.inference.batcher, app.inference.jobs, app.service, app.server.watchdog
app.server.watchdog.MAX_STILL_LOOKS, app.server.watchdog.LOOK_EVERY_S = 4, 0.3
app.server.watchdog.MAX_STILL_LOOKS_OF_PARENT = 6
app.service.MAX_RUN_S = 0.3

def stand_still(*_):
    time.sleep(600)

signal.signal(signal.SIGUSR1, stand_still)
signal.signal(signal.SIGUSR2, lambda *_: setattr(app.inference.batcher, "execute", stand_still))
"""
BODY = {"features": [0.5] * 10}


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_looks_count_from_the_last_turn_and_only_once_there_was_one() -> None:
    ledger = Ledger()
    pulse = Pulse(ledger.sheets[0])
    assert {pulse.still_looks() for _ in range(2 * MAX_STILL_LOOKS)} == {0}
    ledger.turn()
    assert [pulse.still_looks() for _ in range(3)] == [0, 1, 2]
    ledger.turn()
    assert [pulse.still_looks() for _ in range(3)] == [0, 1, 2]


def test_a_lone_process_whose_event_loop_stands_still_says_where_and_ends(models: Path) -> None:
    with Server("--models", str(models), "--workers", "1", before=STUCK) as server:
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.wait(timeout=20) == HUNG_EXIT_CODE
        server._reader.join()
        assert "CRITICAL nothing has moved" in server.log
        assert "in stand_still" in server.log

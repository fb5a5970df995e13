import os

import pytest

from app.system.streams import Streams
from app.system.table import MAX_CELLS, NEAR_CELLS


def test_a_frame_is_old_once_a_newer_one_of_its_stream_came() -> None:
    streams = Streams()
    streams.put("bot", 1.0)
    assert not streams.has_newer("bot", 1.0)
    streams.put("bot", 2.0)
    assert streams.has_newer("bot", 1.0)
    assert not streams.has_newer("bot", 2.0)
    assert not streams.has_newer("another", 1.0)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_another_process_sees_it() -> None:
    streams = Streams(2)
    streams.put("bot", 1.0)
    pid = os.fork()
    if pid == 0:
        streams.table.own = 1
        streams.put("bot", 2.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert streams.has_newer("bot", 1.0)


def test_streams_that_share_a_cell_are_not_taken_for_each_other() -> None:
    streams = Streams()
    streams.put(1, 1.0)
    streams.put(1 + MAX_CELLS, 2.0)  # an int is its own hash
    assert not streams.has_newer(1, 1.0)
    assert streams.has_newer(1 + MAX_CELLS, 1.0)


def test_streams_that_come_and_go_always_find_room() -> None:
    streams = Streams()
    for number in range(20 * NEAR_CELLS):
        stream = number * MAX_CELLS
        streams.put(stream, 1.0 + number)
        assert streams.has_newer(stream, 0.5 + number)

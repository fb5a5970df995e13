import os

import pytest

from app.system.table import Board
from tests.support.forks import in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def test_what_one_process_writes_all_read() -> None:
    board = Board()
    board["version", "melee"] = 3
    in_child(lambda: board.__setitem__(("version", "chess"), -1))
    assert (board["version", "melee"], board["version", "chess"], board["version", "go"]) == (3, -1, 0)


def test_keys_never_stand_in_for_each_other() -> None:
    board = Board()
    for number in range(1, 3000):  # of 4096 slots
        board["key", number] = number
        board["key", number] += os.getpid()
    assert all(board["key", number] == number + os.getpid() for number in range(1, 3000))


def test_a_full_board_is_an_error_and_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.system.table.SLOTS", 4)
    board = Board()
    for number in range(4):
        board["key", number] = number + 1
    with pytest.raises(MemoryError, match="no room for more than 4"):
        board["key", 4] = 5
    assert [board["key", number] for number in range(4)] == [1, 2, 3, 4]

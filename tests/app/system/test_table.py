import os
from collections.abc import Hashable, Iterator
from functools import partial
from mmap import mmap

import pytest

from app.system.table import MAX_CELLS, NEAR_CELLS, Table
from tests.support.forks import in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def written_by(process: int, table: Table, key: Hashable, number: int) -> None:
    """As if by that process."""
    table.own = process
    table[key] = number


def test_what_one_process_writes_all_read() -> None:
    table = Table(2)
    table["version", "melee"] = 3
    in_child(lambda: written_by(1, table, ("version", "chess"), -1))
    assert (table["version", "melee"], table["version", "chess"], table["version", "go"]) == (3, -1, 0)


def test_the_newest_number_counts_whichever_process_wrote_it() -> None:
    table = Table(3)
    for process, number in ((2, 7), (0, 8), (1, 9), (0, 10), (2, 0)):
        in_child(partial(written_by, process, table, "key", number))
        assert table["key"] == number


def test_an_older_moment_does_not_count_though_it_was_written_last() -> None:
    table = Table(2)
    table.write("key", 5, 2000)
    table.own = 1
    table.write("key", 6, 1000)
    assert table.newest("key") == (2000, 5)


def test_keys_never_stand_in_for_each_other() -> None:
    table = Table()
    for number in range(1, 2000):
        table["key", number] = number
        table["key", number] += os.getpid()
    assert all(table["key", number] == number + os.getpid() for number in range(1, 2000))


def near(count: int) -> Iterator[int]:
    """Keys that want the same cell; a whole number is its own hash."""
    return iter(range(5, 5 + count * MAX_CELLS, MAX_CELLS))


def test_a_key_without_room_is_an_error_and_the_others_keep_what_they_have() -> None:
    table = Table()
    *fit, one_more = near(NEAR_CELLS + 1)
    for key in fit:
        table[key] = key + 1
    with pytest.raises(MemoryError, match="no room"):
        table[one_more] = 5
    assert [table[key] for key in (*fit, one_more)] == [*(key + 1 for key in fit), 0]


def test_a_table_that_forgets_drops_the_key_that_was_not_written_for_longest() -> None:
    table = Table(forgets=True)
    *fit, one_more = near(NEAR_CELLS + 1)
    for moment, key in enumerate(fit, 1):
        table.write(key, key, moment)
    table.write(fit[0], 1, 100)
    table.write(one_more, 2, 101)
    assert table.newest(fit[1]) == (0, 0)
    assert [table[key] for key in (fit[0], *fit[2:], one_more)] == [1, *fit[2:], 2]


def test_the_last_cells_are_as_good_as_others() -> None:
    table = Table(2)
    for key in range(MAX_CELLS - 1, NEAR_CELLS * MAX_CELLS, MAX_CELLS):
        written_by(0, table, key, key)
    written_by(1, table, MAX_CELLS, 7)  # the first cell of the second column
    assert [table[key] for key in range(MAX_CELLS - 1, NEAR_CELLS * MAX_CELLS, MAX_CELLS)] == [
        *range(MAX_CELLS - 1, NEAR_CELLS * MAX_CELLS, MAX_CELLS)
    ]
    assert table[MAX_CELLS] == 7


def collisions(rounds: int, own: tuple[int, int]) -> int:
    """Numbers that are lost or wrong after two processes took the same free cell at once, so many times."""
    table, gates = Table(2), memoryview(mmap(-1, 16)).cast("q")

    def write(process: int) -> None:
        table.own = own[process]
        for number in range(rounds):
            # Neither goes on before both are here.
            gates[process] = number + 1
            while gates[1 - process] <= number:
                pass
            key = number * NEAR_CELLS + process * MAX_CELLS
            table[key] = 2 * number + process + 1

    child = os.fork()
    if child == 0:
        try:
            write(1)
        finally:
            os._exit(0)
    write(0)
    os.waitpid(child, 0)
    return sum(
        table[number * NEAR_CELLS + process * MAX_CELLS] != 2 * number + process + 1
        for number in range(rounds)
        for process in (0, 1)
    )


def test_no_number_is_lost_where_two_processes_take_the_same_free_cell_at_once() -> None:
    assert collisions(2000, own=(0, 1)) == 0

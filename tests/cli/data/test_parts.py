"""Tables made by several processes: in order, kept when the run is killed, and no process outlives it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from cli.data.parts import Parts, Task, apart

ROOT = Path(__file__).parents[3]
# Makes six tables, of which those from the fourth on wait for the gate to be opened.
RUN = """
import sys
from contextlib import closing
from pathlib import Path
from cli.data.parts import Parts
from tests.cli.data.test_parts import tasks

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with closing(Parts(folder / "parts", 2).tables(tasks(folder))) as tables:
        for table in tables:
            print(*table["number"].to_pylist(), flush=True)
"""
WAITING = 3


def make(number: int, folder: Path) -> pa.Table:
    with (folder / "made").open("a") as file:
        file.write(f"{number}\n")
    if number >= WAITING:
        (folder / "gate").read_bytes()
    return pa.table({"number": [number, number]})


def tasks(folder: Path) -> list[Task]:
    return [Task(f"n{i}", partial(make, i, folder)) for i in range(6)]


def made(folder: Path) -> list[int]:
    return [*map(int, (folder / "made").read_text().split())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_goes_on_and_leaves_no_process(folder: Path, number: signal.Signals) -> None:
    # What makes a table is imported by name, and a script has none.
    (folder / "run.py").write_text(RUN)
    with subprocess.Popen(
        [sys.executable, folder / "run.py", folder], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        # Opened by whoever makes the fourth table, when the first three are made, or nearly.
        gate = os.open(folder / "gate", os.O_WRONLY)
        while not all((folder / "parts" / f"n{i}.part").exists() for i in range(WAITING)):
            time.sleep(0.01)
        if number == signal.SIGKILL:
            run.kill()
        else:
            # As a terminal does.
            os.killpg(run.pid, number)
        # Ends when none of its processes is left to write to it.
        run.stdout.read()
        run.wait()
    os.close(gate)
    (folder / "gate").unlink()
    (folder / "gate").touch()
    before = len(made(folder))
    with closing(Parts(folder / "parts", 1).tables(tasks(folder))) as tables:
        assert [table["number"].to_pylist() for table in tables] == [[i, i] for i in range(6)]
    assert made(folder)[before:] == [3, 4, 5]


def test_a_damaged_part_is_made_again(folder: Path) -> None:
    (folder / "gate").unlink()
    (folder / "gate").touch()
    parts = Parts(folder / "parts", 1)
    with closing(parts.tables(tasks(folder))) as tables:
        first = [*tables]
    place = folder / "parts" / "n2.part"
    for content in (b"", place.read_bytes()[:-30], place.read_bytes().replace(b"ARROW1", b"ARROW2")):
        place.write_bytes(content)
        with closing(parts.tables(tasks(folder))) as tables:
            assert [*tables] == first
    assert made(folder) == [*range(6), 2, 2, 2]


def end(_: Path) -> pa.Table:
    os._exit(1)


def refuse(folder: Path) -> pa.Table:
    raise ValueError(f"nothing can be made in {folder.name}")


def test_a_process_that_ends_is_told_as_what_it_may_be(folder: Path) -> None:
    with (
        pytest.raises(OSError, match=r"a process ended before its work was done, perhaps for want of memory; .*--jobs"),
        closing(Parts(folder / "parts", 2).tables([Task("n", partial(end, folder))])) as tables,
    ):
        next(tables)


def number_or_end(number: int, _: Path) -> pa.Table:
    if number == 2:
        os._exit(1)
    return pa.table({"number": [number]})


def other(number: int) -> pa.Table:
    return pa.table({"number": [100 + number]})


def test_a_task_that_ends_its_process_is_done_in_another_way_and_the_rest_goes_on(folder: Path) -> None:
    work = [Task(f"n{i}", partial(number_or_end, i, folder), partial(other, i)) for i in range(4)]
    with closing(Parts(folder / "parts", 2).tables(work)) as tables:
        found = [table["number"].to_pylist() for table in tables]
    # Those that were being made by another process at that time may be done in the other way as well.
    assert found[2] == [102]
    assert all(numbers in ([i], [100 + i]) for i, numbers in enumerate(found))
    assert not [*(folder / "parts").glob("*.begun")]


def test_a_task_that_ended_the_run_itself_is_done_in_another_way_by_the_next(folder: Path) -> None:
    work = [Task(f"n{i}", partial(number_or_end, i, folder), partial(other, i)) for i in range(4)]
    run = multiprocessing.get_context("spawn").Process(target=run_alone, args=(folder, work))
    run.start()
    run.join()
    assert run.exitcode == 1
    with closing(Parts(folder / "parts", 1).tables(work)) as tables:
        assert [table["number"].to_pylist() for table in tables] == [[0], [1], [102], [3]]


def run_alone(folder: Path, work: list[Task]) -> None:
    for _ in Parts(folder / "parts", 1).tables(work):
        pass


def test_what_ends_a_process_of_its_own_ends_nothing_else(tmp_path: Path) -> None:
    assert apart(partial(end, tmp_path)) is None
    with pytest.raises(ValueError, match="nothing can be made in"):
        apart(partial(refuse, tmp_path))


def test_an_error_of_a_process_is_that_of_the_run(folder: Path) -> None:
    for jobs in (1, 2):
        with (
            pytest.raises(ValueError, match="nothing can be made in"),
            closing(Parts(folder / "parts", jobs).tables([Task("n", partial(refuse, folder))])) as tables,
        ):
            next(tables)
    assert not [*(folder / "parts").iterdir()]

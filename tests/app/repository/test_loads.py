import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from app.errors import Draining, NotReady
from app.inference.sessions import Graphs
from app.repository.loads import MAX_LOADS, Load, Loads
from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel
from tests.support.changes import until
from tests.support.endless import put_endless_loop

T = TypeVar("T")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the work of a test waits for, which nothing but the test can end."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_what_work_returns_or_raises_is_the_outcome() -> None:
    loads = Loads(10)
    good, bad = loads.begin("good", lambda: 7), loads.begin("bad", lambda: 1 // 0)
    assert good.wait(10)
    assert good.result() == 7
    assert bad.wait(10)
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_who_gives_up_has_the_reason_as_outcome_whatever_comes_later(gate: threading.Event) -> None:
    told: list[str] = []
    load = Loads(10).begin("slow", gate.wait)
    load.when_over(lambda: told.append("over"))
    assert not load.is_over
    load.give_up(BundleError("too slow"))
    assert (load.is_over, load.is_stuck, told) == (True, True, ["over"])
    gate.set()
    until(lambda: not load.is_stuck)
    with pytest.raises(BundleError, match="too slow"):
        load.result()
    load.when_over(lambda: told.append("at once"))
    assert told == ["over", "at once"]


def test_an_outcome_that_is_there_is_not_taken_away() -> None:
    load = Loads(10).begin("quick", lambda: "done")
    assert load.wait(10)
    load.give_up(BundleError("too slow"))
    assert load.result() == "done"


def test_a_load_that_begins_while_a_signal_ends_the_service_is_given_up_too(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(10)

    class Interrupted(Load[T]):
        def __init__(self, about: str, work: Callable[[], T]) -> None:
            super().__init__(about, work)
            # As the handler of SIGTERM does, which may run between any two steps.
            loads.close()

    monkeypatch.setattr("app.repository.loads.Load", Interrupted)
    load = loads.begin("late", gate.wait)
    assert load.is_over
    with pytest.raises(Draining):
        load.result()


def test_threads_that_do_not_come_back_take_all_places_in_the_end(gate: threading.Event) -> None:
    loads = Loads(10)
    for number in range(MAX_LOADS):
        loads.begin(f"hung/{number}", gate.wait).give_up(BundleError("too slow"))
    assert len(loads.stuck) == MAX_LOADS
    with pytest.raises(NotReady, match=r"no more than 4 models are loaded at once, .*: hung/0 for 0 s, hung/1"):
        loads.begin("good", lambda: 7)
    # The models folder is looked at all the same.
    assert loads.begin_apart("the folder", lambda: 7).wait(10)
    assert "4 loads do not end" in loads.troubles[0]
    gate.set()
    until(lambda: not loads.stuck)
    assert loads.begin("good", lambda: 7).wait(10)
    assert loads.troubles == []


def test_the_end_waits_for_no_thread_and_knows_whether_all_have_ended(gate: threading.Event) -> None:
    loads = Loads(10)
    load = loads.begin("hung", gate.wait)
    loads.close()
    with pytest.raises(Draining):
        load.result()
    with pytest.raises(Draining):
        loads.begin("late", lambda: 7)
    assert not loads.have_ended()
    gate.set()
    assert loads.have_ended()


@pytest.mark.parametrize("role", ["context_encoder", "target_encoder", "predictor"])
def test_a_graph_that_loops_for_ever_ends_when_its_load_is_given_up(tmp_path: Path, role: str) -> None:
    folder = put_endless_loop(TinyModel().write(tmp_path), role)

    def run() -> None:
        bundle = read_bundle(folder)
        graphs, golden = Graphs(bundle), bundle.golden
        graphs.context_encoder.run(golden.features)
        graphs.target_encoder.run(golden.features)
        graphs.predictor.run(golden.context_embedding, golden.targets, golden.horizon)

    load: Load[None] = Loads(10).begin("loop", run)
    assert not load.wait(0.2)
    load.give_up(BundleError("too slow"))
    until(lambda: not load.is_stuck)


def test_a_session_that_takes_long_to_make_ends_when_its_load_is_given_up(tmp_path: Path) -> None:
    folder = put_endless_loop(TinyModel().write(tmp_path), "target_encoder", nodes=60_000)
    load: Load[Graphs] = Loads(60).begin("many nodes", lambda: Graphs(read_bundle(folder)))
    assert not load.wait(0.5)
    load.give_up(BundleError("too slow"))
    until(lambda: not load.is_stuck)

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadlineExpired, ModelFailed, QueueFull, Superseded
from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.jobs import Ticket
from app.inference.threads import BatchThreads
from app.system.streams import Streams
from tests.support.fakes import POISON, FakeGraph, RecordingObserver, rows_from

pytestmark = pytest.mark.anyio


@pytest.fixture
def threads() -> Iterator[BatchThreads]:
    threads = BatchThreads(1)
    yield threads
    threads.close()


@pytest.fixture
def graph() -> Iterator[FakeGraph]:
    graph = FakeGraph()
    yield graph
    graph.release()


def threaded(graph: FakeGraph, threads: BatchThreads, max_rows: int = 8, max_queue_rows: int = 1000) -> Batcher:
    return Batcher(graph.run, BatchLimits(max_rows), threads, Streams(), max_queue_rows=max_queue_rows)


def inline(graph: FakeGraph, threads: BatchThreads, max_rows: int = 8) -> Batcher:
    return Batcher(graph.run, BatchLimits(max_rows, inline_rows=max_rows), threads, Streams(), max_queue_rows=1000)


async def until_running(graph: FakeGraph) -> None:
    while not graph.started.is_set():
        await asyncio.sleep(0.001)


async def busy(graph: FakeGraph, batcher: Batcher) -> "asyncio.Task[object]":
    """A request that holds the only thread until `graph.release()`."""
    graph.hold()
    task = asyncio.create_task(batcher.submit(rows_from(9000, 1)))
    await until_running(graph)
    return task


async def until_queued() -> None:
    """Tasks that were just made submit in the next turn of the loop, and are dispatched in the one after."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@dataclass(frozen=True)
class Plan:
    """A request of the property test: after some turns of the loop it comes, and perhaps goes again."""

    rows: int
    comes: int
    leaves: int | None
    poisoned: bool
    stream: str | None
    deadline_in_s: float | None


plans = st.lists(
    st.builds(
        Plan,
        rows=st.integers(1, 20),
        comes=st.integers(0, 4),
        leaves=st.none() | st.integers(0, 4),
        poisoned=st.sampled_from([False, False, False, True]),
        stream=st.sampled_from([None, None, "a", "b"]),
        deadline_in_s=st.sampled_from([None, 1e6, -1.0]),
    ),
    max_size=12,
)


@given(plans, st.integers(1, 8), st.integers(0, 8), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_every_caller_gets_exactly_its_own_rows(
    requests: list[Plan], max_rows: int, inline_rows: int, count: int
) -> None:
    graph, threads, observer = FakeGraph(), BatchThreads(count), RecordingObserver()

    async def call(batcher: Batcher, number: int, plan: Plan) -> None:
        for _ in range(plan.comes):
            await asyncio.sleep(0)
        rows = rows_from(1000 * number, plan.rows)
        if plan.poisoned:
            rows[-1] = POISON
        deadline = None if plan.deadline_in_s is None else monotonic() + plan.deadline_in_s
        task = asyncio.create_task(batcher.submit(rows, ticket=Ticket(deadline, plan.stream)))
        if plan.leaves is not None:
            for _ in range(plan.leaves):
                await asyncio.sleep(0)
            task.cancel()
        try:
            answer, timing = await task
        except asyncio.CancelledError:
            assert plan.leaves is not None
        except Superseded:
            assert plan.stream is not None
        except DeadlineExpired:
            assert plan.deadline_in_s == -1
            assert not set(rows[:-1, 0].tolist()) & set(graph.rows_seen)
        except ModelFailed:
            assert plan.poisoned
        else:
            assert not plan.poisoned
            assert plan.deadline_in_s != -1
            np.testing.assert_array_equal(answer, FakeGraph.answer_to(rows))
            assert timing.queue_s >= 0
            assert 1 <= timing.batch_rows <= max_rows

    async def all_calls() -> None:
        batcher = Batcher(
            graph.run, BatchLimits(max_rows, inline_rows), threads, Streams(), max_queue_rows=10_000, observer=observer
        )
        await asyncio.gather(*(call(batcher, i, plan) for i, plan in enumerate(requests)))
        assert batcher.queue_rows == 0
        # The queue lives on, with every thread free.
        answer, _ = await batcher.submit(rows_from(7, 30))
        np.testing.assert_array_equal(answer, FakeGraph.answer_to(rows_from(7, 30)))

    try:
        asyncio.run(all_calls())
    finally:
        threads.close()
    assert max(graph.batches) <= max_rows
    assert all(full == (rows == max_rows) for rows, full in observer.runs)


async def test_what_waited_while_the_last_run_was_busy_goes_into_one_run(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    others = [asyncio.create_task(batcher.submit(rows_from(10 * i, 2))) for i in range(4)]
    await until_queued()
    assert batcher.queue_rows == 8
    graph.release()
    await asyncio.gather(first, *others)
    assert graph.batches == [1, 8]


async def test_a_lone_request_waits_for_no_other(graph: FakeGraph, threads: BatchThreads) -> None:
    await threaded(graph, threads).submit(rows_from(0, 1))
    await inline(graph, threads).submit(rows_from(0, 1))
    assert graph.batches == [1, 1]


async def test_requests_of_one_turn_of_the_loop_share_an_inline_run(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = inline(graph, threads)
    answers = await asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(5)))
    assert graph.batches == [5]
    assert [timing.batch_rows for _, timing in answers] == [5] * 5


async def test_short_runs_stay_on_the_event_loop_and_long_ones_leave_it(threads: BatchThreads) -> None:
    ran_in: list[str] = []

    def run(rows: np.ndarray) -> np.ndarray:
        ran_in.append(threading.current_thread().name)
        return rows

    batcher = Batcher(run, BatchLimits(max_rows=8, inline_rows=2), threads, Streams(), max_queue_rows=100)
    await batcher.submit(rows_from(0, 2))
    await batcher.submit(rows_from(0, 3))
    assert ran_in[0] == threading.current_thread().name
    assert ran_in[1].startswith("batch")


@pytest.mark.parametrize("busy_s", [0.001, 0.003])
@pytest.mark.parametrize(("refuses", "is_overloaded"), [("never", False), ("now", True), ("before", False)])
async def test_an_overloaded_loop_that_outlasts_a_run_computes_it_itself(
    refuses: str, is_overloaded: bool, busy_s: float
) -> None:
    now, ran_on = [1.0], set[int]()

    def run(rows: np.ndarray) -> np.ndarray:
        ran_on.add(threading.get_ident())
        return rows

    threads = BatchThreads(2)
    batcher = Batcher(run, BatchLimits(8), threads, Streams(), max_queue_rows=1000, clock=lambda: now[0])
    await asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
    ran_on.clear()
    batcher.admission.ran(seconds=0.005, rows=5, turnaround_s=0.005)
    if refuses == "before":
        earlier = asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
        await asyncio.sleep(0)
        assert batcher.admission.refusal(0.0001)
        await earlier
        await asyncio.sleep(0.01)
        ran_on.clear()
    asked = asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
    await asyncio.sleep(0)
    if refuses == "now":
        assert batcher.admission.refusal(0.0001)
    now[0] += busy_s
    await asked
    # By what runs took lately, this one of two rows takes less than 2 ms.
    assert (ran_on == {threading.get_ident()}) == (is_overloaded and busy_s > 0.002)
    threads.close()


async def test_a_small_request_passes_the_pieces_of_a_large_one(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads, max_rows=4)
    first = await busy(graph, batcher)
    large = asyncio.create_task(batcher.submit(rows_from(0, 12)))
    small = asyncio.create_task(batcher.submit(rows_from(500, 1)))
    await until_queued()
    graph.release()
    await asyncio.gather(first, large, small)
    assert graph.rows_seen.index(500) == 1
    assert graph.batches == [1, 4, 4, 4, 1]


async def test_a_poisoned_request_fails_alone(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = inline(graph, threads)
    poisoned = rows_from(0, 2)
    poisoned[1] = POISON
    good, bad = await asyncio.gather(batcher.submit(rows_from(5, 2)), batcher.submit(poisoned), return_exceptions=True)
    assert isinstance(bad, ModelFailed)
    assert not isinstance(good, BaseException)
    np.testing.assert_array_equal(good[0], FakeGraph.answer_to(rows_from(5, 2)))


async def test_a_graph_that_loses_rows_is_a_failure_and_no_mixed_up_answer(threads: BatchThreads) -> None:
    batcher = Batcher(lambda rows: rows[:-1], BatchLimits(8, inline_rows=8), threads, Streams(), max_queue_rows=100)
    with pytest.raises(ModelFailed):
        await batcher.submit(rows_from(0, 3))


async def test_a_full_queue_refuses_at_once_and_says_how_deep_it_is(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads, max_queue_rows=10)
    first = await busy(graph, batcher)
    waiting = asyncio.create_task(batcher.submit(rows_from(0, 9)))
    await until_queued()
    with pytest.raises(QueueFull) as refusal:
        await batcher.submit(rows_from(0, 2))
    assert refusal.value.queue_rows == 9
    fits = asyncio.create_task(batcher.submit(rows_from(0, 1)))
    await until_queued()
    graph.release()
    await asyncio.gather(first, waiting, fits)


async def test_expired_rows_are_never_computed(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    late = asyncio.create_task(batcher.submit(rows_from(77, 1), ticket=Ticket(deadline=monotonic() + 0.02)))
    with pytest.raises(DeadlineExpired):
        await late  # while the run is still held: nobody has to wait for a 504
    with pytest.raises(DeadlineExpired):
        await batcher.submit(rows_from(78, 1), ticket=Ticket(deadline=monotonic()))
    assert batcher.queue_rows == 0
    graph.release()
    await first
    assert graph.rows_seen == [9000]


async def test_rows_are_dropped_at_their_turn_when_the_loop_was_too_busy_to_notice_their_deadline(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    batcher = inline(graph, threads)
    late = asyncio.create_task(batcher.submit(rows_from(77, 1), ticket=Ticket(deadline=monotonic() + 0.005)))
    asyncio.get_running_loop().call_soon(threading.Event().wait, 0.01)
    with pytest.raises(DeadlineExpired):
        await late
    assert graph.rows_seen == []


async def test_cancelled_rows_are_never_computed(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    left = asyncio.create_task(batcher.submit(rows_from(77, 3)))
    await until_queued()
    left.cancel()
    await asyncio.wait([left])
    assert batcher.queue_rows == 0
    graph.release()
    await first
    assert graph.rows_seen == [9000]


async def test_a_newer_frame_of_a_stream_takes_the_place_of_one_that_waits(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    frames = [asyncio.create_task(batcher.submit(rows_from(i, 1), ticket=Ticket(stream="bot"))) for i in range(3)]
    other = asyncio.create_task(batcher.submit(rows_from(50, 1), ticket=Ticket(stream="another bot")))
    await until_queued()
    graph.release()
    outcomes = await asyncio.gather(*frames, return_exceptions=True)
    assert [isinstance(outcome, Superseded) for outcome in outcomes] == [True, True, False]
    await asyncio.gather(first, other)
    assert sorted(graph.rows_seen) == [2, 50, 9000]


async def test_a_frame_that_runs_already_is_not_superseded(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads)
    graph.hold()
    running = asyncio.create_task(batcher.submit(rows_from(0, 1), ticket=Ticket(stream="bot")))
    await until_running(graph)
    newer = asyncio.create_task(batcher.submit(rows_from(1, 1), ticket=Ticket(stream="bot")))
    await until_queued()
    graph.release()
    await asyncio.gather(running, newer)


async def test_a_newer_frame_in_another_process_takes_the_place_of_one_that_waits(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    streams = Streams(2)
    limits = BatchLimits(8, inline_rows=8)
    other_process = Batcher(FakeGraph().run, limits, threads, streams, max_queue_rows=10, name="melee target")
    batcher = Batcher(graph.run, BatchLimits(8), threads, streams, max_queue_rows=10, name="melee target")
    first = await busy(graph, batcher)
    older = asyncio.create_task(batcher.submit(rows_from(0, 1), ticket=Ticket(stream="bot")))
    stays = asyncio.create_task(batcher.submit(rows_from(1, 1), ticket=Ticket(stream="another bot")))
    await until_queued()
    streams.table.own = 1
    await other_process.submit(rows_from(2, 1), ticket=Ticket(stream="bot"))
    graph.release()
    with pytest.raises(Superseded):
        await older
    await asyncio.gather(first, stays)
    assert graph.rows_seen == [9000, 1]


async def test_who_would_be_late_makes_room_for_who_would_not(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    batcher.admission.turnaround_s = 3600.0  # what it knows of the runs before
    late = asyncio.create_task(batcher.submit(rows_from(1, 1), ticket=Ticket(deadline=monotonic() + 60)))
    in_time = asyncio.create_task(batcher.submit(rows_from(2, 1)))
    await until_queued()
    graph.release()
    with pytest.raises(DeadlineExpired):
        await late
    await asyncio.gather(first, in_time)
    assert graph.rows_seen == [9000, 2]


async def test_who_is_alone_is_tried_however_short_the_time(threads: BatchThreads) -> None:
    batcher = Batcher(lambda rows: rows, BatchLimits(8, inline_rows=8), threads, Streams(), max_queue_rows=10)
    batcher.admission.turnaround_s = 3600.0  # one very slow run
    await batcher.submit(rows_from(0, 1), ticket=Ticket(deadline=monotonic() + 60))


async def test_queues_that_share_a_thread_take_turns(threads: BatchThreads) -> None:
    graphs = FakeGraph(), FakeGraph()
    batchers = [threaded(graph, threads, max_rows=1) for graph in graphs]
    order: list[int] = []

    async def call(i: int) -> None:
        await batchers[i].submit(rows_from(0, 1))
        order.append(i)

    await asyncio.gather(*(call(i) for i in (0, 0, 0, 1, 1, 1)))
    assert order[1:5] == [0, 1, 0, 1]  # the first took the thread before the other queue was in line


async def test_the_thread_goes_to_the_next_queue_when_the_one_in_line_has_nothing_left(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    other_graph = FakeGraph()
    batcher, leaving, other = (threaded(each, threads) for each in (graph, FakeGraph(), other_graph))
    first = await busy(graph, batcher)
    left = asyncio.create_task(leaving.submit(rows_from(0, 1)))
    await until_queued()
    stays = asyncio.create_task(other.submit(rows_from(0, 1)))
    await until_queued()
    left.cancel()
    await asyncio.wait([left])
    graph.release()
    await asyncio.gather(first, stays)
    assert other_graph.batches == [1]


async def test_what_would_wait_too_long_for_its_deadline_is_refused_at_once(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    batcher = threaded(graph, threads, max_rows=1)
    for _ in range(20):  # each holds whoever is behind it for about 50 ms
        first = await busy(graph, batcher)
        await asyncio.sleep(0.05)
        graph.release()
        await first
    first = await busy(graph, batcher)
    waiting = [asyncio.create_task(batcher.submit(rows_from(number, 1))) for number in range(10)]
    await until_queued()
    with pytest.raises(QueueFull, match=r"10 rows wait already and they take about \d+ ms, which the deadline hardly"):
        await batcher.submit(rows_from(100, 1), ticket=Ticket(monotonic() + 0.3))
    patient = asyncio.create_task(batcher.submit(rows_from(200, 1), ticket=Ticket(monotonic() + 60)))
    await until_queued()
    graph.release()
    assert len(await asyncio.gather(first, *waiting, patient)) == 12
    # Nobody waits any more, so that whoever comes is tried, however little time there is.
    rows, _ = await batcher.submit(rows_from(300, 1), ticket=Ticket(monotonic() + 0.3))
    assert len(rows) == 1

"""Rows that are not computed: for want of room or time, or because nobody waits for them any more."""

import asyncio
import threading
from time import monotonic

import pytest

from app.errors import DeadlineExpired, QueueFull, Superseded
from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.jobs import Ticket
from app.inference.threads import BatchThreads
from app.system.streams import Streams
from tests.app.inference.conftest import busy, inline, threaded, until_queued, until_running
from tests.support.fakes import FakeGraph, rows_from

pytestmark = pytest.mark.anyio


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
    # While the run is still held: nobody has to wait for a 504.
    with pytest.raises(DeadlineExpired):
        await late
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
    # As if the runs before had taken so long.
    batcher.admission.turnaround_s = 3600.0
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
    batcher.admission.turnaround_s = 3600.0
    await batcher.submit(rows_from(0, 1), ticket=Ticket(deadline=monotonic() + 60))


async def test_what_would_wait_too_long_for_its_deadline_is_refused_at_once(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    now = [0.0]
    batcher = Batcher(graph.run, BatchLimits(1), threads, Streams(), max_queue_rows=1000, clock=lambda: now[0])
    # Each holds whoever is behind it for 50 ms.
    for _ in range(20):
        first = await busy(graph, batcher)
        now[0] += 0.05
        graph.release()
        await first
    first = await busy(graph, batcher)
    waiting = [asyncio.create_task(batcher.submit(rows_from(number, 1))) for number in range(10)]
    await until_queued()
    with pytest.raises(QueueFull, match=r"10 rows wait already and they take about \d+ ms, which the deadline hardly"):
        await batcher.submit(rows_from(100, 1), ticket=Ticket(now[0] + 0.3))
    patient = asyncio.create_task(batcher.submit(rows_from(200, 1), ticket=Ticket(now[0] + 60)))
    await until_queued()
    graph.release()
    assert len(await asyncio.gather(first, *waiting, patient)) == 12
    # Nobody waits any more, so that whoever comes is tried, however little time there is.
    rows, _ = await batcher.submit(rows_from(300, 1), ticket=Ticket(now[0] + 0.3))
    assert len(rows) == 1

import asyncio

import pytest

from app.inference.unread import Unread


@pytest.mark.parametrize("ran_before", [True, False])
def test_a_request_right_after_a_run_is_no_older_than_that_run_however_long_nobody_asked(ran_before: bool) -> None:
    now = [100.0]
    unread = Unread(lambda: now[0])

    async def play() -> list[float]:
        ages = [unread.age_s()]
        if ran_before:
            unread.went_on(now[0] + 0.001, now[0] + 0.002)
        await asyncio.sleep(0.01)
        # Half a minute of requests that each came to an empty queue; the last one's run ends now.
        now[0] = 130.0
        unread.went_on(129.999, 130.0)
        now[0] = 130.0005
        ages.append(unread.age_s())
        return ages

    first, second = asyncio.run(play())
    assert first == 0
    assert 0 < second <= 0.0016


def test_what_a_busy_loop_reads_may_have_come_since_its_last_look() -> None:
    now = [100.0]
    unread = Unread(lambda: now[0])

    async def play() -> float:
        unread.age_s()
        now[0] += 0.004
        unread.went_on(now[0] - 0.001, now[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now[0] += 0.0005
        return unread.age_s()

    assert abs(asyncio.run(play()) - 0.0045) < 1e-9

import numpy as np
import pytest

from bundle.heads import Head
from bundle.schema import Schema
from model.data.frames import Frames
from model.evaluation.events import of_line
from model.evaluation.heads import fit_heads
from model.evaluation.targets import Target

GAMES, LENGTH, HORIZON = 20, 1500, 5


class Hinted:
    """Sees a number of each frame, and of the frame 5 later only whether its number is above 1.5."""

    horizons = (HORIZON,)

    def now(self, features):
        return features[:, :1]

    def context(self, features):
        return features[:, 1:]

    def expected(self, context, horizon):
        assert horizon == HORIZON
        return context


def test_answers_hold_later_where_those_about_now_leave_an_error():
    """The event is as likely all over the upper half, but for its end, as no line through the log-odds says."""
    rng = np.random.default_rng(0)
    count = GAMES * LENGTH
    numbers = rng.uniform(-3, 3, count).astype(np.float32)
    likely = np.select([numbers < 0, numbers < 2.5], [0.02, 0.3], 0.98)
    happened = (rng.uniform(size=count) < likely).astype(np.float32)
    hints = np.where(np.roll(numbers, -HORIZON) > 1.5, 1, -1).astype(np.float32)
    frames = Frames(
        np.stack([numbers, hints], axis=1),
        Schema.of(("number", "hint"), {}),
        np.repeat(np.arange(GAMES), LENGTH),
        np.tile(np.arange(LENGTH), GAMES),
    )
    event = Target(Head("event", "binary", ("event",)), of_line("event = number"), happened)
    rows = np.arange(count)
    fit = fit_heads([event], frames, rows[: count // 2], rows[count // 2 :], Hinted())
    for hint in (-1, 1):
        said = fit.heads.values(np.array([[hint]], np.float32), 1)[0, 0]
        came = happened[np.roll(hints, HORIZON) == hint].mean()
        assert said == pytest.approx(came, abs=0.015)
    (table,) = fit.tables
    assert table[HORIZON].ece < 0.015
    # A line with a knee about now leaves an error that must not be learned.
    assert table[0].ece > 0.03

"""The experiment on the predictor's target, on toy games whose embedding is their columns."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lab import latent
from benchmarks.lab.latent import Side, learned, lines, sides
from bundle.heads import Head
from model.data.frames import Frames
from model.evaluation.events import of_line
from model.evaluation.targets import Target
from tests.support.games import make_games


class Columns:
    """Embeddings are three columns, and the predictor expects that nothing changes."""

    def now(self, features: np.ndarray) -> np.ndarray:
        return features[:, :3]

    context = now

    def expected(self, context: np.ndarray, _: int) -> np.ndarray:
        return context


@pytest.fixture(scope="module")
def games() -> Frames:
    return make_games(10, 120)


@pytest.fixture(scope="module")
def split(games: Frames) -> tuple[Side, Side]:
    train, test = np.flatnonzero(games.episode < 7), np.flatnonzero(games.episode >= 7)
    return sides(games, train, test, Columns(), 600, 0)  # type: ignore[arg-type]


def test_both_sides_have_frames_that_a_later_one_follows(games: Frames, split: tuple[Side, Side]) -> None:
    assert games.frame is not None
    for side in split:
        np.testing.assert_array_equal(games.episode[side.rows], games.episode[side.later])
        np.testing.assert_array_equal(games.frame[side.later] - games.frame[side.rows], latent.HORIZON)
        np.testing.assert_array_equal(side.then, games.features[side.later][:, :3])
    assert set(games.episode[split[0].rows]) == set(range(7))


@pytest.mark.parametrize(("name", "spaces"), [("embedding", 1), ("columns", 1), ("both", 2)])
def test_a_network_expects_what_it_was_trained_for(split: tuple[Side, Side], name: str, spaces: int) -> None:
    train, test = split
    # A world in which what comes can be computed from what is.
    train, test = (
        side._replace(then=side.now * 2, later_columns=np.tile(side.now[:, :1], (1, side.columns.shape[1])))
        for side in (train, test)
    )
    found = learned(train, test, name, 40, 0)
    assert len(found) == spaces
    for space, rows in found.items():
        wanted = test.then if space == "embedding" else test.later_columns
        assert np.square(rows - wanted).mean() < 0.2 * wanted.var()


def test_every_line_has_a_score_for_each_seed(games: Frames, split: tuple[Side, Side]) -> None:
    up = Target(Head("up", "binary", ("up",)), of_line("up = y_up"), games.labels["y_up"].astype(np.float32))
    found = list(lines(*split, [up, replace(up)], 1, 2))
    assert len({name for name, _, _ in found}) == 4 + 5
    assert sum(seed == 1 for _, seed, _ in found) == 5
    assert all(0 <= auc <= 1 for _, _, auc in found)

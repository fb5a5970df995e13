from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.ranges import Ranges
from model.data.symmetry import symmetries
from model.training.batches import Batches, compact
from tests.support.games import make_games

HORIZONS = (2, 5, 9)
SIDES = {"pairs": [["own_", "opp_"]], "hide": ["stage"]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def games():
    games = make_games(length=50)
    return replace(games, symmetries=symmetries(games.schema, {"sides": SIDES}))


def batches(games, *, turned=True):
    return Batches(games, HORIZONS, (0.0, 0.4), games.symmetries if turned else (), CPU)


def seed(number=0):
    return torch.Generator().manual_seed(number)


def test_rows_that_are_float16_numbers_are_kept_as_such():
    values = np.arange(300, dtype=np.float32).reshape(-1, 3) / 8
    kept = compact(values)
    assert kept.dtype == torch.float16
    np.testing.assert_array_equal(kept.float().numpy(), values)


@pytest.mark.parametrize("value", [1 / 3, 70_000.0, 2049.0])
def test_rows_with_any_other_number_stay_float32(value):
    values = np.zeros((100_000, 2), np.float32)
    values[-1, 1] = value
    kept = compact(values)
    assert kept.dtype == torch.float32
    np.testing.assert_array_equal(kept.numpy(), values)


def test_later_rows_are_as_far_ahead_as_their_horizon_says(games):
    drawn = batches(games, turned=False)
    batch = drawn.draw(drawn.with_later_rows(Ranges.all(len(games))), 200, seed())
    now, first, second = batch.rows.view(3, 200, -1)
    time = games.schema.names.index("time")
    for later, horizon in ((first, batch.horizon[:200]), (second, batch.horizon[200:])):
        torch.testing.assert_close((later[:, time] - now[:, time]) * 50, horizon, atol=1e-3, rtol=0)
    assert (batch.horizon[:200] != batch.horizon[200:]).all()
    assert set(batch.horizon.tolist()) == set(map(float, HORIZONS))


def test_anchors_are_the_rows_that_have_a_later_row_at_every_horizon(games):
    anchors = batches(games).with_later_rows(Ranges.all(100))
    assert anchors.tolist() == [*range(41), *range(50, 91)]


def test_the_shares_of_all_ranks_are_the_batch(games):
    drawn = batches(games)
    rows = drawn.with_later_rows(Ranges.all(len(games)))
    whole = drawn.draw(rows, 32, seed())
    shares = [drawn.draw(rows, 32, seed(), rank=rank, ranks=4) for rank in range(4)]
    for name in ("visible", "known", "composites", "composites_known"):
        torch.testing.assert_close(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name))
    # Of each share first come the rows now, then their first later frames, then their second.
    torch.testing.assert_close(torch.cat([share.rows.view(3, 8, -1) for share in shares], 1).flatten(0, 1), whole.rows)
    torch.testing.assert_close(torch.cat([share.horizon.view(2, 8) for share in shares], 1).flatten(), whole.horizon)


def test_half_of_the_rows_are_seen_from_the_other_side_with_their_later_frames(games):
    drawn, plain = batches(games), batches(games, turned=False)
    rows = drawn.with_later_rows(Ranges.all(len(games)))
    batch = drawn.draw(rows, 400, seed())
    swapped = ~batch.known[:, 2]  # the group that only the first player's side knows
    assert 100 < swapped.sum() < 300
    assert batch.known[:, :2].all()
    assert not (batch.visible & ~batch.known).any()
    features = torch.from_numpy(games.features)
    chosen = torch.randint(len(rows), (400,), generator=seed())  # what a batch draws first
    now = features[rows[chosen]]
    torch.testing.assert_close(batch.rows[:400], torch.where(swapped[:, None], games.symmetries[0].apply(now), now))
    stage = games.schema.names.index("stage")
    assert plain.draw(rows, 400, seed()).known is None
    torch.testing.assert_close(batch.rows.view(3, 400, -1)[1, :, stage], batch.rows[:400, stage])


def test_each_symmetry_is_drawn_for_itself_and_holds_for_later_frames_too(games):
    games = replace(games, symmetries=symmetries(games.schema, {"sides": SIDES, "mirror": {"negate": ["time"]}}))
    sides, mirror = games.symmetries
    drawn = batches(games)
    rows = drawn.with_later_rows(Ranges.all(len(games)))
    rows = Ranges.of(rows[games.frame[rows] > games.frame.min()])  # where `time` is above 0
    batch = drawn.draw(rows, 400, seed())
    now, first, second = batch.rows.view(3, 400, -1)
    swapped, mirrored = ~batch.known[:, 2], now[:, games.schema.names.index("time")] < 0
    for look in (swapped & mirrored, swapped & ~mirrored, mirrored & ~swapped):
        assert 60 < look.sum() < 140
    plain = torch.from_numpy(games.features)[rows[torch.randint(len(rows), (400,), generator=seed())]]
    plain = torch.where(swapped[:, None], sides.apply(plain), plain)
    torch.testing.assert_close(now, torch.where(mirrored[:, None], mirror.apply(plain), plain))
    for later in (first, second):
        assert torch.equal(later[:, games.schema.names.index("time")] < 0, mirrored)


def test_a_composite_has_half_of_its_groups_from_another_row_seen_from_the_same_side(games):
    drawn = batches(games)
    rows = drawn.with_later_rows(Ranges.all(len(games)))
    batch = drawn.draw(rows, 400, seed())
    every_fourth, candidates = batch.rows[:400:4], torch.from_numpy(games.features)[rows]
    assert torch.equal(batch.composites_known, batch.known[::4])
    swapped = ~batch.known[::4, 2]
    assert batch.composites.shape == every_fourth.shape
    kept = []
    for i, composite in enumerate(batch.composites):
        seen = games.symmetries[0].apply(candidates) if swapped[i] else candidates
        own = [torch.equal(composite[g.start : g.stop], every_fourth[i, g.start : g.stop]) for g in games.schema.groups]
        of_row = torch.zeros(len(composite), dtype=torch.bool)
        for group, is_own in zip(games.schema.groups, own, strict=True):
            of_row[group.start : group.stop] = is_own
        assert (seen[:, ~of_row] == composite[~of_row]).all(1).any(), "one row has all that is not its own"
        kept.append(own)
    assert 0.4 < np.mean(kept) < 0.7
    assert torch.equal(batch.composites, drawn.draw(rows, 400, seed()).composites)


def test_rows_without_order_are_drawn_alone():
    games = make_games(ordered=False)
    drawn = Batches(games, (0,), (0.0, 0.4), (), CPU)
    batch = drawn.draw(drawn.with_later_rows(Ranges.all(len(games))), 7, seed())
    assert batch.rows.shape == (7, 8)
    assert batch.composites.shape == (2, 8)
    assert len(batch.horizon) == 0


def with_inputs(games, recorded, values=None):
    """The games with one input that is the number of the row it stands in, and one that is a column of the features."""
    rows = np.arange(len(games), dtype=np.float32)
    return replace(
        games,
        actions=np.stack([rows if values is None else values, games.features[:, 3]], axis=1),
        action_names=("button", "opp_x"),
        actions_recorded=(recorded, recorded),
    )


@pytest.mark.parametrize(("recorded", "offset"), [("after", 0), ("before", -1)])
def test_the_ith_input_leads_to_the_frame_i_frames_later(games, recorded, offset):
    drawn = Batches(with_inputs(games, recorded), HORIZONS, (0.0, 0.4), (), CPU, max_actions=4)
    rows = np.array([0, 7, 47, 49, 50])
    found = drawn.inputs.of(rows)[:, :, 0].numpy()
    expected = rows[:, None] + np.arange(1, 5) + offset
    # A game has 50 rows: what leads to a frame of the next one is not known.
    within = expected // 50 == rows[:, None] // 50
    np.testing.assert_array_equal(found, np.where(within, expected, np.nan))


def test_where_frames_rise_by_four_the_inputs_of_the_frames_between_are_not_known(games):
    slow = replace(with_inputs(games, "before"), frame=games.frame * 4)
    drawn = Batches(slow, (4, 8), (0.0, 0.4), (), CPU, max_actions=8)
    found = drawn.inputs.of(np.array([10]))[0, :, 0].numpy()
    np.testing.assert_array_equal(found, [*[np.nan] * 3, 10, *[np.nan] * 3, 11])


def test_a_batch_has_the_inputs_of_its_rows_or_hides_them(games):
    drawn = Batches(with_inputs(games, "after"), HORIZONS, (0.0, 0.4), games.symmetries, CPU, max_actions=4)
    rows = drawn.with_later_rows(Ranges.all(len(games)))
    batch, plain = drawn.draw(rows, 400, seed()), batches(games).draw(rows, 400, seed())
    assert batch.actions.shape == (800, 4, 2)
    # They are drawn last, so that all else is as without them.
    for name in ("rows", "horizon", "visible", "known", "composites"):
        torch.testing.assert_close(getattr(batch, name), getattr(plain, name))
    now = rows[torch.randint(len(rows), (400,), generator=seed())]
    swapped = ~batch.known[:, 2]
    right = torch.from_numpy(now[:, None] + np.arange(1, 5)).float()
    for actions in batch.actions.view(2, 400, 4, 2):
        told = ~actions[:, :, 0].isnan()
        # From the other side a button that is no column is not known; opp_x is no input of that side either.
        assert not told[swapped].any()
        assert 0.2 < told[~swapped].float().mean() < 0.5
        torch.testing.assert_close(actions[:, :, 0][told], right[told])
    shares = [drawn.draw(rows, 400, seed(), rank=rank, ranks=2).actions.view(2, 200, 4, 2) for rank in range(2)]
    whole = torch.cat(shares, 1).flatten(0, 1)
    torch.testing.assert_close(whole, batch.actions, equal_nan=True)


def test_numbers_that_are_none_count_as_unknown(games):
    values = np.where(np.arange(len(games)) % 2, np.inf, 1.0).astype(np.float32)
    drawn = Batches(with_inputs(games, "after", values), HORIZONS, (0.0, 0.4), (), CPU, max_actions=2)
    np.testing.assert_array_equal(drawn.inputs.of(np.array([0]))[0, :, 0].numpy(), [np.nan, 1])


def test_without_order_or_inputs_there_are_none(games):
    unordered = replace(with_inputs(games, "after"), frame=None)
    assert Batches(unordered, (0,), (0.0, 0.4), (), CPU, max_actions=4).inputs is None
    assert Batches(games, HORIZONS, (0.0, 0.4), (), CPU, max_actions=4).inputs is None
    assert Batches(with_inputs(games, "after"), HORIZONS, (0.0, 0.4), (), CPU).inputs is None

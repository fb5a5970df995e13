"""Moments of a game in words."""

import numpy as np

from bundle.heads import Head, Heads
from cli.report.words import MAX_CHANGES, changes, outcomes


def test_columns_are_named_by_how_much_they_changed_beside_their_spread():
    before, after = np.zeros(3, np.float32), np.array([5, -2, 0], np.float32)
    assert changes(("far", "near", "still"), np.array([10.0, 1.0, 1.0]), before, after) == ["near 0 → -2", "far 0 → 5"]
    many = np.arange(1, 9, dtype=np.float32)
    assert len(changes("abcdefgh", np.ones(8), 0 * many, many)) == MAX_CHANGES


def test_a_gap_in_a_row_is_no_change():
    gap = np.array([np.nan, 0], np.float32)
    assert changes(("lost", "kept"), np.ones(2), gap, np.array([1, 1], np.float32)) == ["kept 0 → 1"]


def test_outcomes_that_were_expected_wrongly_are_named_and_numbers_are_none():
    heads = Heads(
        (Head("hit", "binary", ("hit",)), Head("sure", "binary", ("sure",)), Head("x", "number", ("x",))),
        np.array([[4, 0, 100]], np.float32),
        np.zeros(3, np.float32),
        np.tile(np.array([1, 0, 0], np.float32), (2, 3, 1)),
    )
    expected, came = np.array([-1], np.float32), np.array([1], np.float32)
    assert outcomes(heads, 1, expected, came) == ["hit expected at 2%, came at 98%"]

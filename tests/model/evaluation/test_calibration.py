import numpy as np
import pytest

from model.evaluation.calibration import BINS, calibrate, calibration_error


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_probabilities_that_hold_have_no_error_and_others_the_distance_from_what_happened():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200_000)
    happened = rng.uniform(size=len(p)) < p
    assert calibration_error(p, happened) < 0.005
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 60) == pytest.approx(0.3)
    assert calibration_error(np.ones(10), np.ones(10, bool)) == 0
    # The definition, interval by interval.
    q = p**2
    parts = [(q >= i / BINS) & (q < (i + 1) / BINS) for i in range(BINS)]
    expected = sum(m.mean() * abs(q[m].mean() - happened[m].mean()) for m in parts)
    assert calibration_error(q, happened) == pytest.approx(expected)


def answers(found, scores):
    scale, shift, bend, knee = found[0]
    scores = scale * scores + shift
    return sigmoid(scores + bend * np.logaddexp(0, scores + knee))


def test_a_binary_head_finds_the_scale_and_the_shift_that_made_its_answers():
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 20, size=(20_000, 1)).astype(np.float32)
    wanted = sigmoid(0.1 * scores - 0.7)
    np.testing.assert_allclose(calibrate(scores, wanted, "binary"), [[0.1, -0.7, 0, 0]], atol=0.06)
    drawn = (rng.uniform(size=wanted.shape) < wanted).astype(np.float32)
    np.testing.assert_allclose(answers(calibrate(scores, drawn, "binary"), scores), wanted, atol=0.03)


@pytest.mark.parametrize(("bend", "knee"), [(-0.8, 0), (3, 0), (-0.8, 2), (-0.8, -2), (3, 2), (3, -2)])
def test_a_binary_head_may_be_surer_that_something_happens_than_that_it_does_not(bend, knee):
    scores = np.random.default_rng(0).normal(0, 2, size=(20_000, 1)).astype(np.float32)
    wanted = sigmoid(scores + bend * np.logaddexp(0, scores + knee))
    found = calibrate(scores, wanted, "binary")
    assert np.abs(answers(found, scores) - wanted).mean() < 0.005
    np.testing.assert_allclose(answers(found, scores), wanted, atol=0.05)
    straight = found * [[1, 1, 0, 0]]
    assert np.abs(answers(straight, scores) - wanted).max() > 0.06


def test_classes_have_a_scale_and_a_shift_each():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 5, size=(20_000, 3)).astype(np.float32)
    logits = scores * [0.5, 0.1, 0.3] + [1, 0, -1]
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = calibrate(scores, wanted.astype(np.float32), "classes")
    np.testing.assert_allclose(found[:, 0], [0.5, 0.1, 0.3], rtol=0.02)
    # A shift of all together changes nothing.
    np.testing.assert_allclose(found[:, 1] - found[1, 1], [1, 0, -1], atol=0.02)


def test_numbers_are_calibrated_by_least_squares():
    rng = np.random.default_rng(0)
    scores = rng.normal(100, 3, size=(5000, 1)).astype(np.float32)
    np.testing.assert_allclose(calibrate(scores, 2 * scores - 50, "number"), [[2, -50, 0, 0]], rtol=1e-3)


def test_scores_that_are_always_right_or_say_nothing_stay_finite():
    scores = np.repeat([[-1.0], [1.0]], 50, axis=0).astype(np.float32)
    found = calibrate(scores, (scores > 0).astype(np.float32), "binary")
    assert 2 < found[0, 0] < 1000
    constant = calibrate(np.ones((100, 1), np.float32), (np.arange(100) < 30).astype(np.float32)[:, None], "binary")
    assert answers(constant, 1) == pytest.approx(0.3, abs=0.01)

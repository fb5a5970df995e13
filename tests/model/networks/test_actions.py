import numpy as np
import pytest
import torch

from model import build_predictor
from model.networks.actions import ActionEncoding
from tests.model.networks.test_encoder import GROUPS, randomised
from tests.model.networks.test_predictor import SMALL

HORIZONS = (2, 6, 30)
NAN = float("nan")


@pytest.fixture
def context():
    return torch.randn(6, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def actions():
    return torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(1))


def predictor(patches=GROUPS, **options):
    made = build_predictor(12, **SMALL, patches=patches, horizons=HORIZONS, actions=3, max_actions=8, **options)
    return randomised(made)


def ahead(frames):
    return torch.full((6,), float(frames))


@pytest.mark.parametrize("patches", [1, GROUPS])
def test_without_actions_the_weights_are_those_of_a_predictor_that_never_heard_of_them(patches):
    plain = build_predictor(12, **SMALL, patches=patches, horizons=HORIZONS).state_dict()
    taking = build_predictor(12, **SMALL, patches=patches, horizons=HORIZONS, actions=3).state_dict()
    assert {name for name in taking if not name.startswith("actions.")} == plain.keys()
    assert not any(name.startswith("actions") for name in plain)


@pytest.mark.parametrize("patches", [1, GROUPS])
def test_where_no_input_is_known_the_answer_is_that_of_a_predictor_that_never_heard_of_them(context, patches):
    taking = predictor(patches)
    plain = build_predictor(12, **SMALL, patches=patches, horizons=HORIZONS).eval()
    weights = {name: value for name, value in taking.state_dict().items() if not name.startswith("actions.")}
    plain.load_state_dict(weights)
    for frames in HORIZONS:
        expected = plain(context, None, ahead(frames))
        torch.testing.assert_close(taking(context, None, ahead(frames)), expected)
        torch.testing.assert_close(taking(context, None, ahead(frames), torch.full((6, 8, 3), NAN)), expected)


@pytest.mark.parametrize("patches", [1, GROUPS])
def test_each_known_number_reaches_the_answer_and_rows_do_not_mix(context, actions, patches):
    taking = predictor(patches)
    before = taking(context, None, ahead(30), actions)
    assert before.shape == (6, 16)
    for place in ((0, 0), (3, 2), (7, 1)):
        changed = actions.clone()
        changed[2, *place] += 1
        after = taking(context, None, ahead(30), changed)
        others = torch.arange(6) != 2
        torch.testing.assert_close(after[others], before[others])
        assert not torch.allclose(after[2], before[2], atol=1e-5)


def test_an_unknown_number_is_not_the_number_0(context, actions):
    taking = predictor()
    zero, unknown = actions.clone(), actions.clone()
    zero[:, 3, 1], unknown[:, 3, 1] = 0.0, NAN
    assert not torch.allclose(taking(context, None, ahead(30), zero), taking(context, None, ahead(30), unknown))


def test_inputs_that_lead_beyond_the_horizon_do_not_count(context, actions):
    taking = predictor()
    changed = actions.clone()
    changed[:, 2:] = 9.0
    torch.testing.assert_close(taking(context, None, ahead(2), actions), taking(context, None, ahead(2), changed))
    assert not torch.allclose(taking(context, None, ahead(6), actions), taking(context, None, ahead(6), changed))
    # The second input leads to the second frame.
    changed[:, 1] = 9.0
    assert not torch.allclose(taking(context, None, ahead(2), actions), taking(context, None, ahead(2), changed))
    # With nothing but what leads beyond, nothing is known.
    late = torch.full((6, 8, 3), NAN)
    late[:, 2:] = 1.0
    torch.testing.assert_close(taking(context, None, ahead(2), late), taking(context, None, ahead(2)))


def test_actions_of_another_shape_or_for_a_predictor_that_takes_none_are_refused(context, actions):
    with pytest.raises(ValueError, match=r"actions is \[6, 5, 3\]; it must be \[batch, 8, 3\]"):
        predictor()(context, None, ahead(2), actions[:, :5])
    for patches in (1, GROUPS):
        with pytest.raises(ValueError, match="this predictor takes none: build it with actions"):
            build_predictor(12, **SMALL, patches=patches)(context, actions=actions)
    with pytest.raises(ValueError, match="actions is -1; it must be a whole number of at least 0"):
        build_predictor(12, **SMALL, actions=-1)
    with pytest.raises(ValueError, match="max_actions is 0; it must be a whole number of at least 1"):
        build_predictor(12, **SMALL, actions=1, max_actions=0)


# A number, one of five classes, a button, one that is nearly always unknown, and one that never changes.
SEEN = np.stack(
    [
        np.linspace(100, 200, 60),
        np.arange(60) % 5,
        np.arange(60) % 2,
        np.where(np.arange(60) < 2, 3.5, np.nan),
        np.full(60, 7.0),
    ],
    axis=1,
).astype(np.float32)


def test_few_whole_numbers_become_classes_and_others_are_standardised():
    encoding = ActionEncoding.fit(SEEN)
    assert [encoding.values(column) for column in range(5)] == [[], [0, 1, 2, 3, 4], [], [], []]
    encoded = encoding(torch.from_numpy(np.nan_to_num(SEEN))[None])[0].numpy()
    assert encoded.shape == (60, encoding.width) == (60, 10)
    np.testing.assert_allclose(encoded[:, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(encoded[:, 0].std(), 1, atol=1e-5)
    np.testing.assert_array_equal(encoded[:, 1], 0)
    np.testing.assert_array_equal(np.unique(encoded[:, 2]), [-1, 1])
    np.testing.assert_array_equal(encoded[:, 3:5], 0)
    np.testing.assert_array_equal(encoded[:, 5:], np.eye(5)[np.arange(60) % 5])


def test_a_class_that_training_lacks_is_none_of_those_it_had_and_no_number_overflows():
    encoding = ActionEncoding.fit(SEEN)
    odd = torch.tensor([[[3e38, 9.0, -3e38, 0.0, 3e38]]])
    encoded = encoding(odd)
    assert torch.isfinite(encoded).all()
    assert not encoded[0, 0, 5:].any()
    assert encoded[0, 0, 0] == 5


def test_an_input_that_is_never_known_is_silent():
    encoding = ActionEncoding.fit(np.full((10, 1), np.nan, np.float32))
    assert encoding(torch.ones(1, 2, 1)).tolist() == [[[0.0], [0.0]]]


def test_inputs_that_are_made_up_are_like_those_of_training():
    drawn = ActionEncoding.fit(SEEN).draw(50, 8, np.random.default_rng(0))
    assert drawn.shape == (50, 8, 5)
    assert set(drawn[:, :, 1].ravel()) == {0, 1, 2, 3, 4}
    assert 100 <= drawn[:, :, 0].min() < drawn[:, :, 0].max() <= 200
    assert (drawn[:, :, 4] == 7).all()


def test_it_is_learned_what_an_input_does_and_no_input_is_no_worse():
    torch.manual_seed(0)
    options = {"embed_dim": 16, "predictor_embed_dim": 16, "predictor_depth": 1, "num_heads": 2, "dropout": 0.0}
    learner = build_predictor(12, **options, patches=1, horizons=(1, 4), actions=2, max_actions=4)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-2)
    generator, horizon = torch.Generator().manual_seed(1), torch.full((64,), 4.0)

    def errors(told):
        """Of rows whose second input moves the first two numbers, [rows]; half of them are told no input."""
        context, actions = (torch.randn(*shape, generator=generator) for shape in ((64, 16), (64, 4, 2)))
        actions[::2] = torch.nan
        goal = context[:, :2] + 3 * actions[:, 1].nan_to_num()
        found = learner(context, None, horizon, actions if told else None)[:, :2]
        return (found - goal).square().mean(1)

    for _ in range(100):
        optimiser.zero_grad()
        errors(told=True).mean().backward()
        optimiser.step()
    with torch.no_grad():
        told, blind = errors(told=True), errors(told=False)
    assert told[1::2].mean() < 0.3 * blind[1::2].mean()
    assert told[::2].mean() < 0.5

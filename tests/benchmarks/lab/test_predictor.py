"""A new predictor for a bundle, which begins as the old one; and what predictors of several targets are asked."""

import numpy as np
import pytest
import torch

from benchmarks.lab.actions import TARGETS, Arm, auc
from benchmarks.lab.frozen import Frozen, Question, Questions, learn
from benchmarks.lab.predictor import begun, check_begun, hold_fast, views_of
from bundle.reader import read_bundle
from model.data.frames import read_frames
from model.data.ranges import Ranges
from model.export.bundle import export_bundle
from model.networks.actions import ActionEncoding
from tests.model.conftest import NAMES, SCHEMA, toy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    checkpoint = toy({"row": SCHEMA.groups})
    checkpoint.sample = None
    return read_bundle(export_bundle(checkpoint, tmp_path_factory.mktemp("models"), "toy", half=True))


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=400).astype(np.float32) for name in NAMES}
    columns["action_id"] = rng.integers(0, 7, 400).astype(np.float32)
    return read_frames(
        {
            **columns,
            "episode": np.repeat(np.arange(10), 40),
            "frame": np.tile(np.arange(40), 10),
            "push": columns["c0"],
        },
        actions="push",
        like=SCHEMA,
    )


ENCODING = ActionEncoding.plain(1)


def test_it_begins_as_the_old_one_and_between_its_horizons(bundle):
    predictor = begun(bundle, (3, 6, 12, 30), ENCODING, 8)
    check_begun(bundle, predictor)
    near, between, far = predictor.horizon_position[1:]
    torch.testing.assert_close(between, 0.75 * near + 0.25 * far)
    with torch.no_grad():
        predictor.norm.weight *= 1.1
    with pytest.raises(ValueError, match="do not make the bundle's predictor: 6 frames ahead it is off by"):
        check_begun(bundle, predictor)


def test_what_it_learns_from_are_the_bundles_own_embeddings(bundle, frames, tmp_path):
    frozen = Frozen(frames, bundle, tmp_path, max_actions=4)
    parts = views_of(frozen, Ranges.all(len(frames)))
    assert [len(rows) for _, rows in parts] == [len(frames)]  # toy games have no symmetry
    questions = Questions(frozen, parts, (2, 5))
    asked = questions.draw(50, torch.Generator().manual_seed(0))
    features = frames.features[asked.later]
    right = frozen.encoded("target_encoder", features)
    np.testing.assert_allclose(asked.target.numpy(), right, atol=2e-3)
    told = asked.actions[:, 1, 0]
    pushed = frames.actions[asked.later - asked.horizon.long().numpy() + 1, 0]
    known = ~told.isnan().numpy()
    np.testing.assert_array_equal(told.numpy()[known], pushed[known])
    assert 5 < known.sum() < 45
    # Found again in the folder by another run.
    again = Questions(frozen, parts, (2, 5)).draw(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.context, asked.context)


@pytest.mark.parametrize("target", TARGETS)
def test_predictors_of_each_target_learn_it(target):
    torch.manual_seed(0)
    arm = Arm(target, lambda rows: torch.from_numpy(rows[:, None] / 10).float(), 1, ENCODING)

    class Asked:
        def draw(self, count, generator):
            later = torch.randint(0, 10, (count,), generator=generator)
            embedding = later[:, None].expand(-1, 256) / 10
            unknown = torch.full((count, 24, 1), torch.nan)
            return Question(embedding, torch.full((count,), 18.0), unknown, embedding, later.numpy())

    before = arm.loss(Asked().draw(64, torch.Generator().manual_seed(1))).item()
    learn(arm, arm.loss, Asked(), 15, seed=0, batch_size=64)
    assert arm.loss(Asked().draw(64, torch.Generator().manual_seed(1))).item() < 0.7 * before
    width = {"embedding": 256, "columns": 1, "both": 257}[target]
    assert arm.predict(np.zeros((5, 256), np.float32), None).shape == (5, width)


def test_a_class_that_hardly_occurs_does_not_count():
    truth = np.array([0] * 30 + [1] * 30 + [2] * 3)
    scores = np.stack([truth == 0, truth == 1, truth != 2], axis=1).astype(np.float32)
    assert auc(truth, scores, np.array([0, 1, 2])) == 1


def test_what_is_held_fast_answers_as_before_and_learns_what_inputs_do(bundle, frames, tmp_path):
    predictor = begun(bundle, (3, 6, 30), ENCODING, 4)
    hold_fast(predictor, bundle.manifest.horizons)
    before = {name: value.clone() for name, value in predictor.state_dict().items()}
    frozen = Frozen(frames, bundle, tmp_path, max_actions=4)
    questions = Questions(frozen, views_of(frozen, Ranges.all(len(frames))), (3, 6, 30))

    def loss(asked):
        return (predictor(asked.context, None, asked.horizon, asked.actions) - asked.target).square().mean()

    learn(predictor, loss, questions, 3, seed=0, batch_size=64, weight_decay=0.0)
    check_begun(bundle, predictor)
    moved = {name for name, value in predictor.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if not name.startswith("actions.mlp")} == {"horizon_position"}
    assert len(moved) == 5
    assert not torch.equal(predictor.horizon_position[0], before["horizon_position"][0])
    torch.testing.assert_close(predictor.horizon_position[1:], before["horizon_position"][1:], atol=0, rtol=0)

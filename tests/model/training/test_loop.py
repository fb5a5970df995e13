import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from model.training.checkpoint import load_checkpoint
from model.training.diagnostics import warnings
from model.training.held_out import EVALUATION_ROWS, evaluate
from model.training.loop import train
from model.training.recipe import Recipe
from model.training.run import prepare, resume
from tests.support.games import make_games
from tests.support.small_run import SMALL, trained, weights


@pytest.fixture(scope="module")
def games():
    return make_games()


@pytest.mark.parametrize("tokens", ["row", "groups"])
@pytest.mark.parametrize("ordered", [True, False])
def test_training_reports_checkpoints_and_finishes(tmp_path, tokens, ordered):
    path = tmp_path / "c.safetensors"
    reports, steps = trained(prepare(make_games(ordered=ordered), replace(SMALL, tokens=tokens)), path)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [report.step for report in reports] == [3, 6]
    assert all(np.isfinite([r.loss, r.loss_ratio, r.std, r.rankme]).all() for r in reports)
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 6
    assert checkpoint.jepa.config.horizons == ((2, 5) if ordered else (0,))
    quantiles = checkpoint.summary.loss_quantiles["2" if ordered else "0"]
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)


def test_a_stopped_run_resumes_to_the_weights_of_an_unbroken_one(games, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    trained(prepare(games, SMALL), whole)

    train(prepare(games, SMALL), broken, lambda _: None, lambda step: step < 4, every=3)
    assert load_checkpoint(broken).step == 4
    trained(resume(games, broken), broken)
    curves, unbroken = (load_checkpoint(path).summary.history for path in (broken, whole))
    assert curves["step"] == [3, 6]
    assert curves == unbroken
    expected, resumed = weights(load_checkpoint(whole)), weights(load_checkpoint(broken))
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


def test_a_killed_run_resumes_from_its_last_save(games, tmp_path):
    class PulledPlug(Exception):
        pass

    def pull_plug(step):
        if step == 5:
            raise PulledPlug
        return True

    path = tmp_path / "c.safetensors"
    with pytest.raises(PulledPlug):
        train(prepare(games, SMALL), path, lambda _: None, pull_plug, every=3)
    assert load_checkpoint(path).step == 3
    _, steps = trained(resume(games, path), path)
    assert steps == [4, 5, 6]


def test_longer_training_predicts_better_than_the_mean(tmp_path):
    recipe = replace(SMALL, steps=150, learning_rate=3e-3, hide_share=(0.0, 0.0), momentum=0.95, batch_size=128)
    reports, _ = trained(prepare(make_games(episodes=30), recipe), tmp_path / "c.safetensors", every=150)
    assert reports[-1].loss_ratio < 0.8
    assert reports[-1].std > 0.1


def test_no_row_of_a_held_out_game_is_trained_on(games):
    run = prepare(games, SMALL)
    assert not set(games.episode[run.train_rows]) & set(games.episode[run.val_rows])


def test_the_sample_is_of_training_games_and_then_of_held_out_ones(games, tmp_path):
    run = prepare(games, SMALL)
    train(run, tmp_path / "c.safetensors", lambda _: None, lambda _: False)
    sample = load_checkpoint(tmp_path / "c.safetensors").sample
    np.testing.assert_array_equal(sample, run.checkpoint.sample)
    fitted, judged = np.split(sample, 2)
    trained, held_out = ({row.tobytes() for row in games.features[rows]} for rows in (run.train_rows, run.val_rows))
    assert {row.tobytes() for row in fitted} <= trained
    assert {row.tobytes() for row in judged} <= held_out
    assert len(judged) == len(run.val_rows)


def test_the_target_encoder_follows_the_context_encoder_only_by_its_average(games, tmp_path):
    run = prepare(games, replace(SMALL, momentum=1.0, steps=1))
    before = {k: v.clone() for k, v in run.jepa.target_encoder.state_dict().items()}
    trained(run, tmp_path / "c.safetensors")
    # At step 0 the warmed-up momentum is 1/10: nine tenths of the target are the context's weights after the step.
    context = run.jepa.context_encoder.state_dict()
    for name, value in run.jepa.target_encoder.state_dict().items():
        torch.testing.assert_close(value, 0.1 * before[name] + 0.9 * context[name], msg=name)


def test_horizons_longer_than_every_game_are_refused(games):
    with pytest.raises(ValueError, match="no training row has a frame 500 later in its episode; choose shorter"):
        prepare(games, replace(SMALL, horizons=(500,)))


def test_a_loss_that_is_not_finite_stops_the_run_and_says_so(games, tmp_path):
    run = prepare(games, SMALL)
    with torch.no_grad():
        run.jepa.predictor.project.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0; lower the learning rate"):
        trained(run, tmp_path / "c.safetensors")


def test_weights_that_are_not_finite_are_never_saved(games, tmp_path):
    path = tmp_path / "c.safetensors"
    run = prepare(games, SMALL)

    def spoil(step):
        if step == 6:  # after the loss of the step was found to be finite, before its report
            with torch.no_grad():
                run.jepa.target_encoder.position.fill_(float("inf"))
        return True

    with pytest.raises(
        FloatingPointError, match=r"the loss is nan at step 6; lower .* The weights saved last are good"
    ):
        train(run, path, lambda _: None, spoil, every=3)
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 3
    assert all(value.isfinite().all() for value in weights(checkpoint).values())


def test_collapse_is_seen_in_the_report_and_said_in_words(games):
    run = prepare(games, SMALL)
    with torch.no_grad():
        run.jepa.context_encoder.patches[0].project.weight.zero_()
    report = evaluate(run)
    assert report.std < 1e-4
    assert warnings(report.std, report.rankme, report.loss_ratio, 16)[0].startswith(
        "collapse: embeddings hardly differ"
    )


def test_the_report_is_of_the_groups_that_the_predictor_is_asked_for():
    run = prepare(make_games(ordered=False), replace(SMALL, tokens="groups"))
    seen = run.batches.draw(run.val_rows, EVALUATION_ROWS, torch.Generator().manual_seed(0))
    jepa = run.jepa.eval()
    with torch.no_grad():
        asked = ~seen.visible | seen.visible.all(1, keepdim=True)
        assert not asked.all()
        rows = jepa.encoding(seen.rows)
        predicted = jepa.predictor(jepa.context_encoder(rows, seen.visible), asked)
        each = jepa.target_encoder.patch_embeddings(rows)
        target = torch.stack([row[mask].mean(0) for row, mask in zip(each, asked, strict=True)])
    assert evaluate(run).loss == pytest.approx(float(F.smooth_l1_loss(predicted, target)), rel=1e-4)


def test_frames_that_cannot_teach_are_refused_and_doubtful_ones_spoken_of(games):
    with pytest.raises(ValueError, match="all 1,000 training rows are the same row"):
        prepare(replace(games, features=np.ones_like(games.features)), SMALL)
    (said,) = prepare(replace(games, labels={}), replace(SMALL, batch_size=2048)).warnings
    assert said.startswith("1,000 training rows are fewer than a batch of 2,048")


def test_a_batch_that_the_devices_do_not_divide_is_refused(games):
    class Three:
        world_size, device = 3, torch.device("cpu")

    with pytest.raises(
        ValueError, match="batch_size is 32, which 3 devices do not divide into multiples of 4; choose a"
    ):
        prepare(games, SMALL, fabric=Three())


def test_a_run_of_a_version_that_trained_otherwise_is_not_resumed(games, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained(prepare(games, replace(SMALL, steps=1)), path)
    older = load_checkpoint(path)
    del older.recipe["composite"]
    older.save(path)
    with pytest.raises(ValueError, match="begun by another version"):
        resume(games, path)


def test_a_run_can_be_resumed_before_its_first_step_is_over(games, tmp_path):
    class PulledPlug(Exception):
        pass

    def pull_plug(_):
        raise PulledPlug

    path = tmp_path / "c.safetensors"
    with pytest.raises(PulledPlug):
        train(prepare(games, SMALL), path, lambda _: None, pull_plug)
    assert load_checkpoint(path).step == 0
    _, steps = trained(resume(games, path), path)
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_for_other_columns_is_refused(games, tmp_path):
    path = tmp_path / "c.safetensors"
    trained(prepare(games, SMALL), path)
    other = make_games()
    other = replace(other, schema=replace(other.schema, names=(*other.schema.names[:-1], "weather")))
    with pytest.raises(ValueError, match="trained on other columns"):
        resume(other, path)


def test_a_run_that_was_begun_before_column_heads_had_their_name_goes_on(games, tmp_path):
    older, whole = tmp_path / "older.safetensors", tmp_path / "whole.safetensors"
    trained(prepare(games, SMALL), whole)
    train(prepare(games, SMALL), older, lambda _: None, lambda step: step < 4, every=3)
    with safe_open(older, framework="pt") as file:
        metadata = file.metadata()
    tensors = {name.replace("jepa.column_heads.", "jepa.anchor."): value for name, value in load_file(older).items()}
    assert any(name.startswith("jepa.anchor.") for name in tensors)
    save_file(tensors, older, metadata=metadata)
    trained(resume(games, older), older)
    expected, resumed = weights(load_checkpoint(whole)), weights(load_checkpoint(older))
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="is no checkpoint of `jepa train`"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_recipe_survives_json():
    recipe = replace(SMALL, horizons=(1, 9))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"tokens": "pixels"}, "tokens is 'pixels'"),
    ],
)
def test_a_bad_recipe_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_checkpoint_of_other_weights_says_which_version_it_needs(games, tmp_path):
    run = prepare(games, SMALL)
    run.jepa.column_heads.heads.append(torch.nn.Linear(16, 10))
    run.checkpoint.save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="written by another version of jepa-serve"):
        load_checkpoint(tmp_path / "c.safetensors")

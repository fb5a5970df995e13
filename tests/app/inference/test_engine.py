from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInput, ModelFailed
from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.engine import Engine, Queues
from app.inference.forecasts import Forecasts
from app.inference.threads import BatchThreads
from app.rows import Array
from app.system.streams import Streams
from tests.support.bundles import TinyModel
from tests.support.models import loaded

pytestmark = pytest.mark.anyio


@pytest.fixture
def threads() -> Iterator[BatchThreads]:
    threads = BatchThreads(1)
    yield threads
    threads.close()


def engine_of(models: Path, threads: BatchThreads) -> Engine:
    return loaded(models, threads).get(None).engine


@pytest.fixture
def engine(models: Path, threads: BatchThreads) -> Engine:
    return engine_of(models, threads)


async def test_hiding_a_group_is_the_same_as_never_having_seen_it(engine: Engine, tiny: TinyModel) -> None:
    features = tiny.rows(3)
    before = features.copy()
    unseen = features.copy()
    unseen[:, 3:8] = np.nan
    answer = await engine.embed(features, encoder="context", hidden=["opponent"])
    np.testing.assert_allclose(answer.rows, tiny.encode(unseen, "context"), atol=1e-5)
    np.testing.assert_array_equal(features, before)


async def test_prediction_is_the_predictor_after_the_context_encoder(engine: Engine, tiny: TinyModel) -> None:
    features = tiny.rows(3)
    context = tiny.encode(features, "context")
    for targets, chosen in (
        (None, [1, 1]),
        (["own"], [1, 0]),
        (["stage"], [0, 1]),
        (["opponent+stage", "own"], [1, 1]),
    ):
        expected = tiny.predict(context, np.array([chosen] * 3, np.float32), np.array([15] * 3, np.float32))
        answer = await engine.predict(features, targets=targets, horizon=15)
        np.testing.assert_allclose(answer.rows, expected, atol=1e-5)
        from_context = await engine.predict_from_context(context, targets=targets, horizon=15)
        np.testing.assert_allclose(from_context.rows, expected, atol=1e-5)


async def test_each_row_may_have_patches_and_a_horizon_of_its_own(engine: Engine, tiny: TinyModel) -> None:
    context = tiny.encode(tiny.rows(3), "context")
    targets, horizon = np.array([[1, 0], [0, 1], [1, 1]], np.float32), np.array([15, 6, 15], np.float32)
    answer = await engine.predict_patches(context, targets=targets, horizon=horizon)
    np.testing.assert_allclose(answer.rows, tiny.predict(context, targets, horizon), atol=1e-5)
    plain = await engine.predict_patches(context)
    np.testing.assert_allclose(plain.rows, (await engine.predict_from_context(context)).rows, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": np.array([[1, 0], [1, 2]], np.float32)}, "1 for each patch to predict, 0 for the others"),
        ({"targets": np.array([[1, 0], [0, 0]], np.float32)}, r"targets\[1\] is 0 throughout"),
        ({"horizon": np.array([6, 7], np.float32)}, "horizon 7 is none that model 'tiny' was trained for: 6, 15"),
    ],
)
async def test_patches_and_horizons_that_the_model_does_not_know_are_refused(
    engine: Engine, tiny: TinyModel, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        await engine.predict_patches(tiny.encode(tiny.rows(2), "context"), **wrong)


async def test_without_a_horizon_the_first_is_meant(engine: Engine, tiny: TinyModel) -> None:
    features = tiny.rows(1)
    default, first = await engine.predict(features), await engine.predict(features, horizon=6)
    np.testing.assert_array_equal(default.rows, first.rows)


async def test_loss_compares_the_prediction_with_the_later_row(engine: Engine, tiny: TinyModel) -> None:
    now, later = tiny.rows(4), tiny.rows(4, seed=1)
    answer = await engine.loss(now, later, horizon=6)
    predicted = tiny.predict(tiny.encode(now, "context"), np.ones((4, 2), np.float32), np.full(4, 6, np.float32))
    distance = np.abs(predicted - tiny.encode(later))
    by_hand = [np.mean([d * d / 2 if d < 1 else d - 0.5 for d in row]) for row in distance]
    np.testing.assert_allclose(answer.losses, by_hand, rtol=1e-4)
    assert answer.percentiles is not None
    np.testing.assert_allclose(answer.percentiles, np.array(by_hand) * 100, rtol=1e-4)  # its quantiles run from 0 to 1
    assert answer.timing.batch_rows == 4


async def test_there_are_no_percentiles_without_quantiles(engine: Engine, tiny: TinyModel) -> None:
    embedding = tiny.encode(tiny.rows(2))
    assert engine.loss_of_embeddings(embedding, embedding, horizon=15).percentiles is None
    assert (await engine.loss(tiny.rows(1), tiny.rows(1), horizon=15)).percentiles is None


@pytest.mark.parametrize(
    ("options", "loc", "message"),
    [
        ({"hidden": ["oponent"]}, ("hidden", 0), "did you mean 'opponent'? it has 'own', 'opponent', 'stage'"),
        ({"hidden": ["own", "7"]}, ("hidden", 1), "hidden[1] is no group of this model; it has"),
        ({"hidden": ["own", "opponent", "stage"]}, ("hidden",), "at least one group must stay visible"),
        ({"targets": ["nobody"]}, ("targets", 0), "targets[0] is no group of this model"),
        ({"targets": []}, ("targets",), "name at least one group, or leave it out for all"),
        ({"horizon": 7}, ("horizon",), "horizon 7 is none that model 'tiny' was trained for: 6, 15"),
        ({"horizon": 6.5}, ("horizon",), "horizon 6.5 is none"),
    ],
)
async def test_a_name_the_model_does_not_know_is_refused(
    engine: Engine, tiny: TinyModel, options: dict[str, Any], loc: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await engine.predict(tiny.rows(1), **options)
    ((found_loc, found_message),) = refusal.value.errors
    assert found_loc == loc
    assert message in found_message


async def test_a_model_of_one_patch_predicts_only_the_whole_row(tmp_path: Path, threads: BatchThreads) -> None:
    whole = TinyModel(patches=(("own", "opponent", "stage"),))
    whole.write(tmp_path)
    engine = engine_of(tmp_path, threads)
    with pytest.raises(InvalidInput, match="predicts only the whole row at once; leave targets out"):
        await engine.predict(whole.rows(1), targets=["own"])
    everything = await engine.predict(whole.rows(1))
    for targets in (["own", "opponent", "stage"], ["own+opponent+stage"]):
        answer = await engine.predict(whole.rows(1), targets=targets)
        np.testing.assert_array_equal(answer.rows, everything.rows)


async def test_an_answer_that_is_not_finite_is_a_failure_that_names_the_row(
    engine: Engine, tiny: TinyModel, threads: BatchThreads
) -> None:
    def overflow(features: Array) -> Array:
        return np.where(np.arange(len(features))[:, None] == 1, np.float32(np.inf), features)

    queue = Batcher(overflow, BatchLimits(8, inline_rows=8), threads, Streams(), max_queue_rows=8)
    failing = Engine(engine.manifest, Queues(queue, queue, queue), engine.drift, Forecasts(engine.manifest, None, None))
    with pytest.raises(ModelFailed, match="answered row 1 with numbers that are not finite"):
        await failing.embed(tiny.rows(3))

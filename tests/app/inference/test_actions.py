"""The engine with the player's own inputs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidInput
from app.inference.engine import Engine
from app.inference.threads import BatchThreads
from tests.support.acting import ACTING, inputs, predicted, values
from tests.support.models import loaded

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine(acting_models: Path) -> Iterator[Engine]:
    threads = BatchThreads(1)
    yield loaded(acting_models, threads).get(None).engine
    threads.close()


@pytest.mark.parametrize("frames", [1, 3, 4])
async def test_each_row_is_predicted_with_the_inputs_beside_it(engine: Engine, frames: int) -> None:
    features, actions = ACTING.rows(3), inputs(3, frames)
    answer = await engine.predict(features, horizon=15, actions=actions)
    np.testing.assert_allclose(answer.rows, predicted(features, actions), atol=1e-5)
    context = ACTING.encode(features, "context")
    from_context = await engine.predict_from_context(context, horizon=15, actions=actions)
    np.testing.assert_allclose(from_context.rows, answer.rows, atol=1e-5)


async def test_inputs_that_are_not_known_are_as_none_at_all(engine: Engine) -> None:
    features = ACTING.rows(2)
    none = await engine.predict(features, horizon=15)
    unknown = await engine.predict(features, horizon=15, actions=np.full((2, 4, 3), np.nan, np.float32))
    np.testing.assert_array_equal(none.rows, unknown.rows)
    np.testing.assert_allclose(none.rows, predicted(features, None), atol=1e-5)


async def test_one_row_may_have_many_candidates(engine: Engine) -> None:
    features, actions = ACTING.rows(1), inputs(9, 4)
    answer = await engine.predict(features, horizon=6, actions=actions)
    np.testing.assert_allclose(answer.rows, predicted(features, actions, 6), atol=1e-5)
    targets, horizon = np.array([[1, 0]], np.float32), np.array([6], np.float32)
    context = ACTING.encode(features, "context")
    part = await engine.predict_patches(context, targets=targets, horizon=horizon, actions=actions)
    np.testing.assert_allclose(
        part.rows, (await engine.predict(features, horizon=6, targets=["own"], actions=actions)).rows, atol=1e-5
    )


async def test_a_batch_mixes_requests_with_and_without_inputs(engine: Engine) -> None:
    features, actions = ACTING.rows(6), inputs(6, 4)
    given = [actions[:1], None, actions[2:3, :2], None, actions[4:5], None]
    answers = await asyncio.gather(
        *(engine.predict(features[i : i + 1], horizon=15, actions=each) for i, each in enumerate(given))
    )
    assert max(answer.timing.batch_rows for answer in answers) > 1
    for i, (answer, each) in enumerate(zip(answers, given, strict=True)):
        np.testing.assert_allclose(answer.rows, predicted(features[i : i + 1], each), atol=1e-5)


async def test_heads_read_what_is_predicted_with_the_inputs(engine: Engine) -> None:
    features, actions = ACTING.rows(1), inputs(3, 4)
    found = await engine.forecast(features, horizon=6, actions=actions, hidden=["opponent"], novelty=True)
    features[:, 3:8] = np.nan
    np.testing.assert_allclose(found.values, values(predicted(features, actions, 6), 6), rtol=1e-4)
    assert found.novelty is not None
    assert len(np.unique(found.novelty)) == 1
    assert found.flat().shape == (3, found.values.shape[1] + 1)
    context = ACTING.encode(features, "context")
    again = await engine.forecast_from_context(context, horizon=6, actions=actions)
    np.testing.assert_allclose(again.values, found.values, rtol=1e-4)


@pytest.mark.parametrize("horizon", [0, None])
async def test_inputs_go_with_a_later_frame(engine: Engine, horizon: int | None) -> None:
    for ask in (engine.predict, engine.forecast, engine.predict_from_context, engine.forecast_from_context):
        rows = ACTING.rows(1) if ask in (engine.predict, engine.forecast) else ACTING.encode(ACTING.rows(1))
        with pytest.raises(InvalidInput, match="horizon is 0, the frame itself; ask for horizon 4, 6, 15, or leave"):
            await ask(rows, horizon=horizon, actions=inputs(1, 4))


async def test_inputs_for_other_rows_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="holds inputs for 2 rows, but the request has 3; send one list of inputs"):
        await engine.predict(ACTING.rows(3), horizon=6, actions=inputs(2, 4))

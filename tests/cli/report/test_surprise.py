import numpy as np
import pytest

from bundle.reader import read_bundle
from cli.embedding import BundleEmbedder
from cli.report.surprise import Surprise, surprise
from tests.support.bundles import TinyModel
from tests.support.serving import serving


@pytest.mark.anyio
@pytest.mark.parametrize("quantiles", [True, False])
async def test_the_surprise_of_a_game_is_what_the_service_answers(tmp_path, quantiles):
    model = TinyModel(quantiles=quantiles)
    folder = model.write(tmp_path)
    rows = model.rows(600)
    ahead = np.append(np.arange(6, 600), [-1] * 6)
    bundle = read_bundle(folder)
    found = surprise(bundle, BundleEmbedder(bundle), model.encode(rows, "context"), model.encode(rows), ahead, 6)
    np.testing.assert_array_equal(found.rows, np.arange(6, 600))
    async with serving(models=tmp_path) as client:
        body = {"features": rows[:-6].tolist(), "target_features": rows[6:].tolist(), "horizon": 6}
        answer = (await client.post("/loss", json=body)).json()
    np.testing.assert_allclose(found.losses, answer["losses"], rtol=1e-3, atol=1e-6)
    if quantiles:
        np.testing.assert_allclose(found.percentiles, answer["percentiles"], rtol=1e-3, atol=1e-3)
    else:
        assert found.percentiles is None


def test_moments_are_the_largest_losses_far_enough_apart():
    losses = np.zeros(500, np.float32)
    losses[[100, 110, 300, 499]] = [3, 2.9, 2, 1]
    found = Surprise(np.arange(500), losses, None)
    assert found.moments(60)[:3] == [100, 300, 499]
    assert len(set(found.moments(60))) == 5
    assert found.moments(0)[:3] == [100, 300, 499]
    assert Surprise(np.arange(3), losses[99:102], None).moments(60) == [1]

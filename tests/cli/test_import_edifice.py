"""Weights of the Elixir reference, from its files to the service, compared with its formulas in NumPy."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from app.inference.sessions import Graphs
from bundle.reader import read_bundle
from cli.main import app
from tests.model import reference
from tests.support.edifice import encoder_parameters, predictor_parameters, write
from tests.support.serving import serving

ENCODER, PREDICTOR = encoder_parameters(), predictor_parameters()
# Raw columns such as percents, positions and ids, far from a mean of 0 and a standard deviation of 1.
ROWS = (np.random.default_rng(5).normal(size=(5, 12)) * np.logspace(-2, 5, 12)).astype(np.float32)
EMBEDDINGS = reference.edifice_encoder(ROWS, ENCODER)
PREDICTIONS = reference.edifice_predictor(EMBEDDINGS, PREDICTOR)


def jepa(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edifice")
    groups = [["own", 0, 4], ["opponent", 4, 10], ["stage", 10, 12]]
    schema = {"names": [f"column {i}" for i in range(12)], "groups": groups}
    (folder / "schema.json").write_text(json.dumps(schema))
    done = jepa("import-edifice", *write(folder), "--out", folder / "models", "--schema", folder / "schema.json")
    assert done.exit_code == 0, done.output
    assert "from 12 columns to 16 with 2 blocks, and a predictor of width 8 with 3" in done.output
    assert f"{folder / 'models' / 'edifice' / '1'} is ready: jepa serve --models {folder / 'models'}" in done.output
    return folder / "models"


def test_the_bundle_says_where_it_is_from_and_makes_up_nothing(models):
    manifest = read_bundle(models / "edifice" / "1").manifest
    assert manifest.training == {"imported_from": "Edifice's JEPA: encoder.safetensors, predictor.safetensors"}
    assert manifest.loss_quantiles == {}
    assert manifest.horizons == [0]
    assert manifest.feature_schema.names[11] == "column 11"
    assert [group.name for group in manifest.feature_schema.groups] == ["own", "opponent", "stage"]
    assert "statistics" not in json.loads((models / "edifice" / "1" / "bundle.json").read_text())


def test_inspect_accepts_it(models):
    done = jepa("inspect", models / "edifice")
    assert done.exit_code == 0, done.output
    assert "predictor float32: as at export" in done.output


def test_the_sessions_answer_raw_rows_as_the_reference_does(models):
    graphs = Graphs(read_bundle(models / "edifice" / "1"))
    for graph in (graphs.context_encoder, graphs.target_encoder):
        np.testing.assert_allclose(graph.run(ROWS), EMBEDDINGS, atol=1e-5)
    asked = np.ones((5, 1), np.float32), np.zeros(5, np.float32)
    predictions = graphs.predictor.run(EMBEDDINGS.astype(np.float32), *asked)
    np.testing.assert_allclose(predictions, PREDICTIONS, atol=1e-5)


@pytest.mark.anyio
async def test_the_service_answers_raw_rows_as_the_reference_does(models):
    async with serving(models=models) as client:

        async def post(path, **body):
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        for encoder in ("target", "context"):
            answer = await post("/embed", features=ROWS.tolist(), encoder=encoder)
            np.testing.assert_allclose(answer["embeddings"], EMBEDDINGS, atol=1e-5)
        unseen = ROWS.copy()
        unseen[:, 4:10] = 0
        hidden = await post("/embed", features=ROWS.tolist(), hidden=["opponent"])
        np.testing.assert_allclose(hidden["embeddings"], reference.edifice_encoder(unseen, ENCODER), atol=1e-5)
        for given in ({"features": ROWS.tolist()}, {"context": EMBEDDINGS.tolist()}):
            np.testing.assert_allclose((await post("/predict", **given))["predictions"], PREDICTIONS, atol=1e-5)
        distance = np.abs(PREDICTIONS - np.roll(EMBEDDINGS, 1, axis=0))
        expected = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(1)
        losses = await post("/loss", features=ROWS.tolist(), target_features=np.roll(ROWS, 1, axis=0).tolist())
        np.testing.assert_allclose(losses["losses"], expected, atol=1e-5)
        assert losses["percentiles"] is None


def test_weights_of_any_size_are_imported_and_a_schema_is_not_needed(tmp_path):
    large = encoder_parameters(depth=1)
    large["ctx_enc_final_norm.gamma"] *= np.float32(1000)
    files = write(tmp_path, large, predictor_parameters(depth=1))
    done = jepa("import-edifice", *files, "--out", tmp_path / "models", "--name", "large")
    assert done.exit_code == 0, done.output
    assert jepa("inspect", tmp_path / "models" / "large").exit_code == 0
    bundle = read_bundle(tmp_path / "models" / "large" / "1")
    assert [group.name for group in bundle.manifest.feature_schema.groups] == [f"patch{i}" for i in range(8)]
    embeddings = Graphs(bundle).target_encoder.run(ROWS)
    np.testing.assert_allclose(embeddings, reference.edifice_encoder(ROWS, large), atol=1e-5 * 1000)


def test_eval_probes_it_and_says_why_no_untrained_network_is_beside_it(models, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 12)).astype(np.float32)
    np.savez(tmp_path / "games.npz", features=rows, episode=np.arange(300) // 50, y_up=(rows[:, 0] > 0).astype(int))
    quick = "--no-trees", "--no-neighbours", "--no-few-labels"
    done = jepa("eval", models / "edifice", tmp_path / "games.npz", *quick, "--out", tmp_path / "table.json")
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "table.json").read_text())["scores"]
    assert "target" in scores
    assert "untrained" not in scores
    assert "recipe" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PREDICTOR", "ENCODER"], "the files are swapped"),
        (["encoder.nx", "PREDICTOR"], 'params = Edifice.Checkpoint.load("encoder.nx")'),
        (["missing.safetensors", "PREDICTOR"], "No such file or directory: missing.safetensors"),
        (["ENCODER", "."], "error: "),
        (["ENCODER", "PREDICTOR", "--name", "../x"], "name is '../x'"),
        (["ENCODER", "PREDICTOR", "--schema", "missing.json"], "No such file or directory: 'missing.json'"),
        (["ENCODER", "PREDICTOR", "--schema", "ENCODER"], "encoder.safetensors is no JSON"),
        (["ENCODER", "PREDICTOR", "--schema", "SCHEMA"], "names is a list of 2; it must list 12 strings, one a column"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(tmp_path, arguments, message):
    encoder, predictor = write(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps({"names": ["x", "y"]}))
    places = {"ENCODER": encoder, "PREDICTOR": predictor, "SCHEMA": tmp_path / "schema.json"}
    given = [places.get(argument, argument) for argument in arguments]
    done = jepa("import-edifice", *given, "--out", tmp_path / "models")
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (tmp_path / "models").exists()

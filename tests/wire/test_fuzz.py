"""Whatever comes, the service says what is wrong with it, in the form of the dialect, and goes on. Here is what
/openapi.json does not describe; `test_contract.py` has what it does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.main import create_app
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.mutations import mutated
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio

FIELDS = (
    *("features", "target_features", "context", "predicted", "target", "hidden", "targets", "horizon", "encoder"),
    *("heads", "novelty"),
    *("model", "schema_hash", "inputs", "outputs", "parameters", "id"),
)
PATHS = ("/embed", "/predict", "/forecast", "/loss", "/v2/models/tiny/infer", "/v2/models/tiny.forecast/infer")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
rows = st.lists(st.floats(width=32) | scalars, max_size=11)
values = scalars | rows | st.lists(rows, max_size=3) | st.dictionaries(st.text(), scalars)
documents = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values, max_size=4)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "application/octet-stream", "text/csv", "", "a/b+json"])},
    optional={
        "accept": st.sampled_from(["application/octet-stream", "*/*", "q=;,"]),
        "x-request-timeout-ms": st.sampled_from(["100", "-1", "nan", "0", "1e9", "soon"]),
        "x-stream-id": st.sampled_from(["a", ""]),
        "inference-header-content-length": st.sampled_from(["0", "5", "-1", "x", "99999999999999999999"]),
        "content-encoding": st.sampled_from(["gzip", "deflate", "br", "identity"]),
    },
)


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 600
    assert answer.status_code != 500, answer.text
    if answer.status_code >= 400:
        document = answer.json()
        assert document["error"] if answer.url.path.startswith("/v2") else document["detail"]


@pytest.mark.parametrize("way", ["asgi", "socket"])
async def test_no_body_breaks_the_service(
    way: str, tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    models = tmp_path_factory.mktemp("models")
    TinyModel(heads=True).write(models)
    drawn: list[tuple[str, bytes, dict[str, str]]] = []
    bodies = st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode())

    @given(st.sampled_from(PATHS), bodies, headers)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def draw(path: str, body: bytes, said: dict[str, str]) -> None:
        drawn.append((path, body, said))

    draw()
    async with serving(way, models=models) as client:
        for path, body, said in drawn:
            check(await client.post(path, content=body, headers=said))
        assert (await client.get("/readyz")).status_code == 200
        answer = await client.post("/embed", json={"features": [0.5] * 10})
        assert answer.status_code == 200
    record_property("bad inputs", len(drawn))


ROW = [0.5] * 10
STATISTICS = {name: [number] * 10 for name, number in {"mean": 0.0, "std": 1.0, "min": -5.0, "max": 5.0}.items()}
PAGES = (
    "/models",
    "/models/tiny",
    "/models/tiny/drift",
    "/v2/models/tiny/config",
    "/openapi.json",
    "/metrics",
    "/docs",
)
QUESTIONS = {
    "/embed": {"features": ROW},
    "/predict": {"features": ROW},
    "/forecast": {"features": ROW, "novelty": True},
    "/loss": {"features": ROW, "target_features": ROW},
    "/v2/repository/index": {},
}


async def test_whatever_a_bundle_says_it_is_refused_or_served_and_every_page_answers(tmp_path: Path) -> None:
    manifest = TinyModel(heads=True, extra={"statistics": STATISTICS}).write(tmp_path) / "bundle.json"
    right = json.loads(manifest.read_text())
    drawn: list[str] = []

    @given(mutated(right))
    @settings(max_examples=settings().max_examples // 10, database=None)
    def draw(document: dict[str, Any]) -> None:
        drawn.append(json.dumps(document))

    draw()
    for text in drawn:
        manifest.write_text(text)
        app = create_app(Settings(models=tmp_path))
        async with client_of(app) as client:
            registry = app.state.service.registry
            assert len(registry.models) + len(registry.refused) == 1
            for page in PAGES:
                check(await client.get(page))
            for path, body in QUESTIONS.items():
                check(await client.post(path, json=body))

"""Whatever comes, the service says what is wrong with it, in the form of the dialect, and goes on."""

import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

EXAMPLES = 300
FIELDS = ("features", "target_features", "context", "predicted", "target", "hidden", "targets", "horizon", "encoder")
FIELDS += ("model", "schema_hash", "inputs", "outputs", "parameters", "id")
PATHS = ("/embed", "/predict", "/loss", "/v2/models/tiny/infer", "/v2/models/tiny.loss/infer", "/v2/repository/index")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
rows = st.lists(st.floats(width=32) | scalars, max_size=11)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["features", "context", "nonsense"]),
        "datatype": st.sampled_from(["FP32", "BOOL", "BYTES", ""]),
        "shape": st.lists(st.integers(-2, 2**40), max_size=3),
    },
    optional={"data": rows | st.lists(rows, max_size=3), "parameters": st.dictionaries(st.text(max_size=4), scalars)},
)
values = (
    scalars | rows | st.lists(rows, max_size=3) | st.lists(tensors, max_size=2) | st.dictionaries(st.text(), scalars)
)
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
    TinyModel().write(models)
    drawn: list[tuple[str, bytes, dict[str, str]]] = []
    bodies = st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode())

    @given(st.sampled_from(PATHS), bodies, headers)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
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

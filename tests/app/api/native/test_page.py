"""The files of the page, and what a client that wants none of it is told."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.api.native.page import FOLDER, prefers_json
from bundle.sample import sample_bytes
from tests.support.bundles import TinyModel, write_manifest
from tests.support.serving import serving

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
MAX_LINES = 300
MAX_BYTES = 60_000
pytestmark = pytest.mark.anyio


async def test_a_browser_gets_a_page_whose_files_are_kept_for_good_and_whose_html_is_asked_for_again(models):
    async with serving("socket", models=models) as client:
        page = await client.get("/", headers={"Accept": BROWSER})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        assert page.headers["cache-control"] == "no-cache"
        again = await client.get("/", headers={"Accept": BROWSER, "If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        files = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
        assert {file.rpartition(".")[2] for file in files} == {"css", "js", "svg"}
        for file in files:
            answer = await client.get(f"/{file}")
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            plain = await client.get(f"/{file}", headers={"Accept-Encoding": "identity"})
            assert plain.content == answer.content == (FOLDER / Path(file).name).read_bytes()
            assert int(answer.headers["content-length"]) < len(plain.content)
        head = await client.head("/")
        assert (head.status_code, head.content) == (200, b"")


async def test_a_file_of_another_version_of_the_page_is_not_found(models):
    async with serving(models=models) as client:
        assert (await client.get("/page/0123456789abcdef/main.js")).status_code == 404
        assert (await client.get("/page/0123456789abcdef/../../settings.py")).status_code == 404


async def test_the_page_is_small_and_each_of_its_modules_short():
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    for path in files:
        assert len(path.read_text().splitlines()) < MAX_LINES, path.name


async def test_a_client_that_asks_for_json_is_told_what_this_is(models):
    async with serving(models=models) as client:
        answer = await client.get("/", headers={"Accept": "application/json"})
        assert answer.headers["vary"] == "Accept"
        document = answer.json()
        assert document["name"] == "jepa-serve"
        for link in ("models", "openapi", "metrics", "readyz"):
            assert (await client.get(document["links"][link])).status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("text/html;q=0.5, application/json;q=0.8", True),
        ("application/*", True),
        ("text/html;q=0, application/json", True),
        (BROWSER, False),
        ("*/*", False),
        ("application/json;q=0.5, text/html", False),
        ("application/json;q=much", False),
        ("", False),
    ],
)
async def test_json_is_preferred_where_it_weighs_more(accept, expected):
    assert prefers_json(accept) is expected


async def test_the_page_needs_no_key_and_nothing_else_is_open(models, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("of-this-test-alone-0123")
    async with serving("socket", models=models, api_keys_file=keys) as client:
        page = await client.get("/", headers={"Accept": BROWSER})
        assert page.status_code == 200
        script = re.search(r'src="(page/[^"]+\.js)"', page.text)[1]
        assert (await client.get(f"/{script}")).status_code == 200
        for path in ("/models", "/models/tiny", "/models/tiny/sample", f"/{script}x", "/page"):
            assert (await client.get(path)).status_code == 401, path


def with_sample(models, content=None, **changes):
    model = TinyModel(extra={"sample": {"rows": 20, "rate": 60, "source": "made up"}, **changes})
    folder = model.write(models)
    (folder / "sample.npz").write_bytes(content or sample_bytes(model.rows(20)))
    write_manifest(folder, model.manifest())
    return folder


async def test_the_sample_of_a_bundle_is_served_as_it_is(tmp_path):
    with_sample(tmp_path)
    async with serving("socket", models=tmp_path) as client:
        (listed,) = (await client.get("/models")).json()["models"]
        assert listed["sample"] == {"rows": 20, "rate": 60.0, "source": "made up"}
        answer = await client.get("/models/tiny/sample")
        with np.load(io.BytesIO(answer.content)) as arrays:
            np.testing.assert_array_equal(arrays["features"], TinyModel().rows(20))


async def test_no_sample_and_one_that_was_changed_since_are_404_with_the_reason(models, tmp_path):
    async with serving(models=models) as client:
        answer = await client.get("/models/tiny/sample")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:jepa:error:no-sample")
        assert (await client.get("/models/nobody/sample")).json()["type"] == "urn:jepa:error:unknown-model"
    folder = with_sample(tmp_path)
    async with serving(models=tmp_path, watch_s=0) as client:
        sample = folder / "sample.npz"
        sample.write_bytes(sample.read_bytes()[::-1])
        assert "changed" in (await client.get("/models/tiny/sample")).json()["detail"]
        sample.unlink()
        assert "cannot be read" in (await client.get("/models/tiny/sample")).json()["detail"]


async def test_one_model_alone_is_described_with_its_ranges_and_its_map(tmp_path):
    plane = {"mean": [0.0] * 4, "components": [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], "explained": [0.5, 0.25], "source": "x"}
    replace(TinyModel(), extra={"map": plane}).write(tmp_path)
    async with serving(models=tmp_path) as client:
        document = (await client.get("/models/tiny")).json()
        (listed,) = (await client.get("/models")).json()["models"]
    assert document["map"] == plane
    assert document["statistics"] == {"mean": [0.0] * 10, "std": [1.0] * 10}
    assert document.items() >= listed.items()
    assert not {"map", "statistics"} & listed.keys()

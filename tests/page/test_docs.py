"""/docs in a real browser, cut off from all but the service."""

import httpx
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
from playwright.sync_api import expect  # noqa: E402

from tests.support.browser import CHROMIUM, TIMEOUT_MS, tab  # noqa: E402
from tests.support.serving import Server  # noqa: E402

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
    pytest.mark.timeout(240),
]
expect.set_options(timeout=TIMEOUT_MS)


def forms(document):
    """The operation ids of forms of which no two have the same fields; that each example is answered is tested with
    the document, and to open a form takes Swagger UI a second."""
    found = {}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            fields = [(field["in"], field["name"]) for field in operation.get("parameters", [])]
            found[method, *fields, *operation.get("requestBody", {}).get("content", {})] = operation["operationId"]
    return found.values()


def test_each_kind_of_form_answers_200_as_it_stands(chromium):
    with Server("--workers", "1", "--model-control") as server, tab(chromium, f"{server.url}/docs") as found:
        found.page.locator(".opblock").first.wait_for()
        blocks = [block.get_attribute("id") for block in found.page.locator(".opblock").all()]
        asked = [
            name for name in blocks if name.rpartition("-")[2] in forms(httpx.get(f"{server.url}/openapi.json").json())
        ]
        for block in asked:
            opened = found.page.locator(f"#{block}")
            opened.locator(".opblock-summary-control").click()
            button = opened.get_by_role("button", name="Execute", include_hidden=True)
            if block == "operations-inference-stream":
                expect(button).to_be_hidden()
            else:
                button.click()
                expect(opened.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
            # An open block's answer makes each later step slower to draw.
            opened.locator(".opblock-summary-control").click()
        assert len(blocks) > 25
        assert len(asked) > 10
        assert found.errors == []
        assert found.hosts <= {f"{server.host}:{server.port}", ""}


def test_models_cannot_be_loaded_by_a_form_where_that_is_forbidden(chromium, server):
    with tab(chromium, f"{server.url}/docs") as found:
        for end in ("_load", "_unload"):
            block = found.page.locator(f".opblock[id$={end}]")
            block.locator(".opblock-summary-control").click()
            expect(block.get_by_role("button", name="Execute", include_hidden=True)).to_be_hidden()
        assert found.errors == []

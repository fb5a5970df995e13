"""/docs in a real browser, cut off from all but the service."""

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
from playwright.sync_api import expect  # noqa: E402

from tests.support.browser import CHROMIUM, tab  # noqa: E402

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
    pytest.mark.timeout(240),
]


def test_each_headline_endpoint_answers_as_it_stands(chromium, server):
    with tab(chromium, f"{server.url}/docs") as found:
        for path in ("/embed", "/predict", "/loss", "/forecast"):
            block = found.page.locator(".opblock-post").filter(
                has=found.page.locator(f'.opblock-summary-path[data-path="{path}"]')
            )
            block.locator(".opblock-summary-control").click()
            block.get_by_role("button", name="Execute").click()
            expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
            # An open block's answer makes each later step slower to draw.
            block.locator(".opblock-summary-control").click()
        assert found.errors == []
        assert found.hosts <= {f"{server.host}:{server.port}", ""}

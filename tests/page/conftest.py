"""One browser and one service for all tests of the page."""

import pytest


@pytest.fixture(scope="package")
def chromium():
    # Playwright may be missing, and then the tests are skipped before they ask for this.
    from tests.support.browser import browser

    with browser() as running:
        yield running


@pytest.fixture(scope="package")
def server():
    from tests.support.serving import Server

    with Server("--workers", "1") as running:
        yield running

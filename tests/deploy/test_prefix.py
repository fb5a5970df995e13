"""The service behind a prefix: the lines of docs/operations.md in a real nginx."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.browser import CHROMIUM, browser, tab
from tests.support.changes import until
from tests.support.serving import Server

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONF = """
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    CONNECTION
    server {
        listen 127.0.0.1:PORT;
        LOCATION
    }
}
"""
# Of a frame of the bundled model.
WIDTH = 287
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")


@pytest.fixture(scope="module", params=["passed on", "taken off"])
def url(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of the service, with the prefix."""
    location, connection = re.findall(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with Server("--workers", "1", "--root-path", "/jepa") as server:
        end = "" if request.param == "passed on" else "/"
        location = location.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}{end}")
        text = CONF.replace("CONNECTION", connection).replace("PORT", port).replace("LOCATION", location)
        (folder / "nginx.conf").write_text(text)
        command = [str(NGINX), "-e", "stderr", "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off; user root;"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nginx:
            until(lambda: answers(f"http://127.0.0.1:{port}/jepa/livez"))
            yield f"http://127.0.0.1:{port}/jepa"
            nginx.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_page_and_the_docs_load_all_that_they_link(url: str) -> None:
    for path in ("/", "/docs"):
        page = httpx.get(f"{url}{path}", headers={"Accept": "text/html"})
        links = re.findall(r"""(?:href|src)=["\']([^"\'#]+)""", page.text)
        assert links
        for link in links:
            assert httpx.get(page.url.join(link)).status_code == 200, link
    document = httpx.get(f"{url}/openapi.json").json()
    (server,) = document["servers"]
    asked = httpx.URL(f"{url}/openapi.json").join(server["url"] + "/embed")
    assert httpx.post(asked, json={"features": [0.5] * WIDTH}).status_code == 200


def test_a_client_that_is_moved_stays_behind_the_prefix(url: str) -> None:
    for path in ("/docs/", ""):
        answer = httpx.get(f"{url}{path}", headers={"Accept": "text/html"}, follow_redirects=True)
        assert answer.status_code == 200
        assert answer.url.path.startswith("/jepa")


def test_a_stream_opens_behind_the_prefix(url: str) -> None:
    with connect(f"ws{url[4:]}/stream", compression=None) as stream:
        stream.send(bytes(4 + 4 * WIDTH))
        assert len(stream.recv(timeout=20)) == 4 + 4 * 256


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium")
@pytest.mark.timeout(240)
def test_a_browser_plays_the_page_and_draws_the_docs_behind_the_prefix(url: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
    with browser() as running:
        with tab(running, f"{url}/") as page:
            playwright.expect(page.page.locator("body")).to_contain_text("melee")
            assert page.errors == []
        with tab(running, f"{url}/docs") as docs:
            docs.page.locator(".opblock").first.wait_for()
            assert docs.errors == []

"""Stock clients of other languages and probes, as they come: what they add for themselves stands in nobody's way."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Server

BODY = json.dumps({"features": [0.5] * 10})
INFER = json.dumps({"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 10], "data": [0.5] * 10}]})
PATHS = {"/embed": BODY, "/forecast": BODY, "/v2/models/tiny/infer": INFER, "/v2/repository/index": "{}"}
# Java's client offers HTTP/2 with each first request of a connection.
JAVA = """
import java.net.URI;
import java.net.http.*;

public class Post {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 1; i + 1 < arguments.length; i += 2)
            for (int again = 0; again < 2; again++) {
                HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + arguments[i]))
                    .header("Content-Type", "application/json")
                    .POST(HttpRequest.BodyPublishers.ofString(arguments[i + 1])).build();
                System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
            }
    }
}
"""


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "1") as server:
        yield server
        assert server.stop() == 0


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_java_s_own_client_is_answered_though_it_offers_http_2(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "Post.java"
    source.write_text(JAVA)
    pairs = [text for pair in PATHS.items() for text in pair]
    # Starts faster without its optimising compiler.
    assert said("java", "-XX:TieredStopAtLevel=1", str(source), server.url, *pairs).split() == ["200"] * 2 * len(PATHS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_is_answered_though_it_offers_http_2(server: Server) -> None:
    for path, body in PATHS.items():
        asked = ["curl", "-s", "--http2", "-H", "Content-Type: application/json", "-d", body, server.url + path]
        assert said(*asked, "-o", "/dev/null", "-w", "%{http_code}") == "200", path


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("wget") is None, reason="needs curl and wget")
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/docs", "/metrics", "/models", "/openapi.json", "/v2"])
def test_probes_that_want_no_body_get_none(server: Server, path: str) -> None:
    head = said("curl", "-sI", server.url + path)
    assert head.startswith("HTTP/1.1 200 ")
    said("wget", "-q", "--spider", server.url + path)

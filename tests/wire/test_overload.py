"""What an overloaded service tells bots with deadlines."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.serving import Server

# Nothing that must be answered within half a second may wait.
OVERLOADED = """
from app.errors import QueueFull
from app.inference.admission import Admission
Admission.refusal = lambda self, left_s, rows=1: QueueFull(7, "this is a test") if left_s < 0.5 else None
"""


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "1", before=OVERLOADED) as server:
        yield server
        assert server.stop() == 0


def test_a_head_seen_before_is_refused_without_a_look_at_the_body(server: Server) -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 40\r\n"
    head += b"X-Request-Timeout-Ms: 400\r\nX-Request-Id: mine\r\n\r\n"
    answers = []
    with server.connect() as connection:
        for value in (0.5, np.nan):
            # In one piece, as bots send it.
            connection.sendall(head + np.full(10, value, "<f4").tobytes())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answers.append(
                (answer.status, answer.headers["Retry-After"], answer.headers["X-Request-Id"], answer.read())
            )
    assert answers[0] == answers[1]
    assert answers[0][:3] == (429, "1", "mine")
    problem = json.loads(answers[0][3])
    assert (problem["type"], problem["queue_rows"]) == ("urn:jepa:error:queue-full", 7)
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'jepa_requests_rejected_total{reason="queue_full"} 2.0' in metrics
    assert 'jepa_http_requests_total{method="POST",route="/embed",status="429"} 2.0' in metrics


@pytest.mark.parametrize("head", [{}, {"X-Request-Timeout-Ms": "60000"}])
def test_who_has_time_is_answered(server: Server, head: dict[str, str]) -> None:
    with httpx.Client(base_url=server.url) as bot:
        for _ in range(2):
            assert bot.post("/embed", json={"features": [0.5] * 10}, headers=head).status_code == 200

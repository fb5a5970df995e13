"""Inference requests of the Open Inference Protocol, drawn from its grammar and from what is nearly its grammar: each
is answered or refused in few words, and the service stays as large as it was."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.bundles import TinyModel
from tests.support.fuzz import ROUNDS, fuzzed
from tests.support.serving import Server

TINY = TinyModel()
REQUESTS = 250
MAX_REFUSAL_BYTES = 10_000
# Stands for a list in a list in a list.
DEEP = "deep"
MODELS = {"tiny": "features", "tiny.predictor": "context", "tiny.loss": "predicted", "tiny.context": "features"}


class Grammar:
    """Draws a body and its headers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._binary = b""

    def draw(self) -> tuple[str, bytes, dict[str, str]]:
        self._binary = b""
        model, headers = self._rng.choice([*MODELS]), {"content-type": "application/json"}
        document = {"inputs": self._inputs(MODELS[model])} | self._options()
        depth = self._rng.choice((5, 900, 100_000))
        body = json.dumps(self._odd(document)).replace(f'"{DEEP}"', "[" * depth + "]" * depth, 1).encode()
        if self._rng.random() < 0.1:
            body = self._damaged(body)
        if self._binary or self._rng.random() < 0.1:
            headers["inference-header-content-length"] = str(self._rng.choice([len(body)] * 5 + [0, 1, len(body) + 9]))
            body += self._binary
        if self._rng.random() < 0.2:
            headers["content-encoding"] = self._rng.choice(("gzip", "gzip", "deflate", "br"))
            body = gzip.compress(body, 1)
        return f"/v2/models/{model}/infer", body, headers

    def _inputs(self, name: str) -> Any:
        count = self._rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 0, 30))
        return [self._tensor(name) for _ in range(count)]

    def _tensor(self, name: str) -> dict[str, Any]:
        rows = self._rng.choice((1, 1, 2, 8, 200, 0))
        numbers = TINY.rows(rows, self._rng.randint(0, 3))
        tensor: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": [rows, TINY.input_dim]}
        match self._rng.randrange(4):
            case 0:
                tensor["data"] = numbers.tolist()
            case 1:
                tensor["parameters"] = {"binary_data_size": numbers.nbytes + self._rng.choice((0, 0, 0, 4, -1))}
                self._binary += numbers.tobytes()
            case _:
                tensor["data"] = numbers.ravel().tolist()
        changes: tuple[Callable[[], dict[str, Any]], ...] = (
            dict,
            dict,
            lambda: {"name": self._value()},
            lambda: {"datatype": self._rng.choice(("INT64", "BOOL", "FP64", "BYTES", ""))},
            lambda: {"shape": self._rng.choices((-1, 0, 1, 2**40, 2**70, 1.5), k=self._rng.randint(0, 40))},
            lambda: {"data": self._value()},
            lambda: {"parameters": self._value()},
            lambda: {self._word(): self._value()},
        )
        return tensor | self._rng.choice(changes)()

    def _options(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "id": self._rng.choice(("a", "", "x" * 10_000, 7)),
            "outputs": [{"name": self._rng.choice(("embedding", "prediction", "nope", "")), "parameters": {}}],
            "parameters": {"binary_data_output": self._rng.random() < 0.5, "timeout": self._rng.choice((10**9, 1, -1))},
        }
        chosen = {name: value for name, value in known.items() if self._rng.random() < 0.2}
        return chosen | ({self._word(): self._value()} if self._rng.random() < 0.1 else {})

    def _odd(self, document: dict[str, Any]) -> Any:
        """The document, or now and then one of its members or something else in its place."""
        if self._rng.random() < 0.9:
            return document
        return self._rng.choice((self._value(), [document], {"inputs": self._value()}, document["inputs"]))

    def _damaged(self, body: bytes) -> bytes:
        at = self._rng.randrange(len(body))
        return body[:at] + self._rng.choice((b"", b",", b"]", b"NaN", b'"', b"\xff", b"1e999")) + body[at + 1 :]

    def _word(self) -> str:
        return self._rng.choice(("data", "model", "inputs", "__proto__", "\ud800", "k" * 500, "", "é"))

    def _value(self, depth: int = 0) -> Any:
        scalars = (None, True, 0, -1, 2**70, 1.5, float("nan"), "", "x" * 500, "features", "\0")
        if depth > 2 or self._rng.random() < 0.4:
            return self._rng.choice(scalars)
        count = self._rng.choice((0, 1, 3, (2000, 20, 3, 3)[depth]))
        if self._rng.random() < 0.2:
            return DEEP
        if self._rng.random() < 0.5:
            return [self._value(depth + 1)] * count
        return {f"{self._word()}{number}": number for number in range(count)}


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with fuzzed(models, "--max-rows", "100") as server:
        yield server


def test_whatever_comes_close_to_a_request_is_answered_or_refused_in_few_words(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    statuses = set()
    # One that takes longer for an answer has hung.
    with httpx.Client(base_url=server.url, timeout=10) as client:
        for seed in range(REQUESTS * ROUNDS):
            path, body, headers = Grammar(random.Random(seed)).draw()
            answer = client.post(path, content=body, headers=headers)
            statuses.add(answer.status_code)
            assert answer.status_code in (200, 400, 404, 413, 415, 504), (seed, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]
                assert len(answer.content) < MAX_REFUSAL_BYTES, seed
        assert client.post("/embed", json={"features": [0.5] * TINY.input_dim}).status_code == 200
    assert statuses >= {200, 400, 413, 415}
    record_property("bad inputs", REQUESTS * ROUNDS)

"""A client that more than one process has."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jepa_client import AsyncJepaClient, JepaClient, Unauthorized
from tests.client.conftest import Running
from tests.client.test_imports import CLIENT
from tests.support.bundles import TinyModel
from tests.support.relay import Relay
from tests.support.serving import ROOT

Start = Callable[..., tuple[Relay, str]]
KEY = "key-0123456789abcdef"


@pytest.mark.parametrize("kind", ["client", "stream", "async client", "async stream"])
def test_a_forked_child_has_a_connection_of_its_own_and_leaves_its_parents_open(
    kind: str, running: Running, relay: Start, tiny: TinyModel, tmp_path: Path
) -> None:
    before, url = relay(running.port)
    rows = tiny.rows(3)
    np.save(tmp_path / "rows.npy", rows)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.support.forking_client",
        url,
        kind,
        str(tmp_path / "rows.npy"),
    ]
    path = os.pathsep.join((str(CLIENT.parent), str(ROOT)))
    bot = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False)
    assert bot.returncode == 0, bot.stderr
    np.testing.assert_allclose(json.loads(bot.stdout), tiny.encode(rows), atol=1e-5)
    assert before.connections == 2


@pytest.mark.parametrize("kind", [JepaClient, AsyncJepaClient])
def test_a_client_that_is_pickled_keeps_its_options(kind: type[Any]) -> None:
    client = kind(
        "http://user:secret@127.0.0.1:9", timeout=0.5, api_key=KEY, schema_hash="abc", stream="bot 1", retries=1
    )
    again = pickle.loads(pickle.dumps(client))
    assert type(again) is kind
    assert again._service == client._service


def test_a_client_that_is_pickled_asks_over_a_connection_of_its_own(
    serve: Callable[..., Running], relay: Start, tiny: TinyModel
) -> None:
    before, url = relay(serve(api_keys=KEY).port)
    with JepaClient(url, api_key=KEY) as client:
        client.embed(tiny.rows(1))
        with pickle.loads(pickle.dumps(client)) as again:
            np.testing.assert_allclose(again.embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
    assert before.connections == 2
    with JepaClient(url) as keyless, pytest.raises(Unauthorized):
        keyless.embed(tiny.rows(1))


def test_threads_that_share_a_client_do_not_close_each_others_connections(
    running: Running, relay: Start, tiny: TinyModel
) -> None:
    before, url = relay(running.port)
    rows = tiny.rows(200)
    with JepaClient(url) as client, ThreadPoolExecutor(40) as threads:
        np.testing.assert_allclose([*threads.map(client.embed, rows)], tiny.encode(rows), atol=1e-5)
    assert before.connections <= 40

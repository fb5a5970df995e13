"""The bot that learns an Atari game, run against a real server."""

import re
from functools import partial

import pytest

pytest.importorskip("ale_py", reason="needs the extra: jepa-client[atari]")

from tests.support.bundles import TinyModel
from tests.support.scripts import run_example
from tests.support.serving import Server

bot = partial(run_example, "atari_bot.py")
SHORT = ["--generations", 1, "--population", 2, "--steps", 8]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    TinyModel("memory", groups=(("ram", 128),), patches=(("ram",),)).write(models)
    TinyModel().write(models)
    with Server("--models", str(models)) as server:
        yield server


def test_it_learns_on_both_and_prints_what_each_is_worth(server):
    played = bot("pong", "--url", server.url, "--model", "memory", "--seeds", 2, *SHORT)
    assert played.returncode == 0, played.stderr
    first, title, *table = played.stdout.splitlines()
    assert re.fullmatch(r"the first of 2 seeds is done, about \d+ s left", first)
    assert title == "points in 8 steps of pong, mean ± standard deviation of 2 seeds"
    number = r" +-?\d+\.\d\d"
    assert [re.fullmatch(rf"(.*?){number} ±{number}", line)[1].strip() for line in table] == [
        "random play",
        "linear, memory",
        "linear, embedding",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pong", "--model", "tiny"], "an observation has 128 numbers, model 'tiny' takes 10"),
        (["pong", "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
    ],
)
def test_what_does_not_fit_is_said(server, arguments, message):
    played = bot("--url", server.url, *arguments, *SHORT)
    assert played.returncode == 1
    assert message in played.stderr

"""What the documents show is run, and what they list is complete."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from app.errors import ServiceError
from app.settings import DEFAULT_MODEL, PREFIX, Settings
from bundle.folders import locate
from bundle.manifest import read_manifest
from bundle.schema import Schema
from cli.main import COMMANDS, load
from jepa_client import JepaClient
from model.export import edifice
from tests.support.replays import duel, game
from tests.support.serving import Server

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "client/README.md")]
PAGES += sorted(DOCS.glob("*.md"))
ADDRESS = "127.0.0.1:8000"
LUA = "lua" if shutil.which("lua") else "luajit"
# Of languages that a machine may lack: a program's file, what runs it, what fails where that cannot, what it takes.
RUNTIMES = {
    "javascript": ("bot.mjs", ["node"], ["node", "-e", "fetch"], "Node 18 or newer"),
    "lua": ("bot.lua", [LUA], [LUA, "-e", "require 'socket'"], "Lua with LuaSocket"),
    "csharp": ("bot.cs", ["dotnet", "run"], ["sh", "-c", "dotnet --version | grep -q '^[1-9][0-9]'"], ".NET SDK 10"),
    "elixir": ("bot.exs", ["elixir"], ["elixir", "-e", "{:ok, _} = Application.ensure_all_started(:inets)"], "Elixir"),
}


def fenced(language, *, shown=r"(?!)"):
    """Each block of the language in the pages, with the block after it where that one's language is `shown`."""
    blocks = []
    for page in PAGES:
        found = re.findall(
            rf"```{language}\n(.*?)```(?:\s+```{shown}\n(.*?)```)?", page.read_text(), re.DOTALL | re.MULTILINE
        )
        blocks += [pytest.param(*block, id=f"{page.name}-{i}") for i, block in enumerate(found)]
    return blocks


def programs():
    """(page, words) of each command line in the pages that starts with this project's program or with make."""
    start_of_a_command = r"(?:^|`)(?:\w+=\S+ )*(?:\S*/)?"
    for page in PAGES:
        for line in re.findall(rf"{start_of_a_command}((?:jepa|make) [^`#\n]*)", page.read_text(), re.MULTILINE):
            yield page.name, shlex.split(line)


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client")))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("code", "output"), fenced("python", shown="json"))
def test_a_python_snippet_runs_as_it_stands_and_prints_what_is_shown(code, output, server, tmp_path):
    if "replays" in code:
        (tmp_path / "replays").mkdir()
        (tmp_path / "replays" / "game.slp").write_bytes(game(duel(100, first=-123)))
    printed = run(
        [
            sys.executable,
            "-W",
            "error::DeprecationWarning",
            "-c",
            code.replace(ADDRESS, f"{server.host}:{server.port}"),
        ],
        tmp_path,
    )
    assert printed.strip() == (output or printed).strip()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs bash and curl")
@pytest.mark.parametrize(("code", "output"), fenced("bash", shown="json"))
def test_a_shell_snippet_runs_as_it_stands_and_prints_something(code, output, server, tmp_path):
    printed = run(["bash", "-euo", "pipefail", "-c", code.replace(ADDRESS, f"{server.host}:{server.port}")], tmp_path)
    assert printed.strip()
    assert printed.strip() == (output or printed).strip()


@pytest.mark.parametrize("language", RUNTIMES)
def test_a_snippet_in_another_language_gets_the_embedding_that_python_gets(language, server, tmp_path):
    file, command, probe, needed = RUNTIMES[language]
    (code,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / "clients.md").read_text(), re.DOTALL)
    if not shutil.which(probe[0]) or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(f"needs {needed}")
    (tmp_path / file).write_text(code.replace(ADDRESS, f"{server.host}:{server.port}"))
    width, first = run([*command, file], tmp_path).splitlines()[-1].split()
    with JepaClient(server.url) as client:
        embedding = client.embed(np.eye(1, 287)[0] * 0.42, hidden=["prev_action"])
    assert int(width) == len(embedding)
    assert float(first) == pytest.approx(embedding[0], abs=1e-4)


def test_every_command_line_is_one_that_the_program_takes():
    pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")
    checked = set()
    for page, (program, name, *arguments) in programs():
        if program == "make":
            assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{page}: make {name}"
            continue
        assert name in {*COMMANDS, "--help"}, f"{page}: jepa {name}"
        words = [name, *arguments[: name == "data"]]
        if given := arguments[len(words) - 1 :]:  # without any, the page only mentions the command
            load(*words).make_context(words[-1], given)
            checked.add(" ".join(words))
    assert {"serve", "train", "embed", "bench", "data melee", "data atari"} <= checked


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name})" in readme


def test_the_settings_page_lists_every_setting_with_its_default_and_description():
    page = (DOCS / "settings.md").read_text()
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or isinstance(field.default, Path) else field.default
        rows.append(f"| `{PREFIX}{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {field.description} |")
    assert re.findall(rf"^\| `{PREFIX}.*$", page, re.MULTILINE) == rows, "the table should be:\n" + "\n".join(rows)


def test_the_error_table_has_every_refusal_with_its_status():
    def tree(cls):
        return [cls, *chain.from_iterable(map(tree, cls.__subclasses__()))]

    page = (DOCS / "http.md").read_text()
    listed = {(int(status), slug) for status, slug in re.findall(r"^\| (\d+) \| `([\w-]+)`", page, re.MULTILINE)}
    assert listed == {(error.status, error.slug) for error in tree(ServiceError)[1:]}


def test_the_melee_page_describes_every_column():
    described = re.findall(r"`([^`]+)`", (DOCS / "melee.md").read_text())
    patterns = [re.escape(each).replace("…", "(own|opp)").replace(r"\*", r"\w+") for each in described]
    patterns += [r"proj[0-4]_\w+", r"prev_btn_\w+"]
    for name in read_manifest(locate("default", DEFAULT_MODEL)).feature_schema.names:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_the_melee_page_names_every_class_of_actions():
    page = (DOCS / "melee.md").read_text()
    for name in read_manifest(locate("default", DEFAULT_MODEL)).feature_schema.names:
        if name.startswith("own_act_"):
            assert f"`{name.removeprefix('own_act_')}`" in page


def test_the_elixir_page_saves_and_describes_as_the_import_asks_for():
    page = (DOCS / "elixir.md").read_text()
    for name in ("encoder", "predictor"):
        assert edifice.SAVE.format(path=f"{name}.safetensors") in page
    assert edifice.LOAD.format(path="encoder.nx") in page
    (description,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert [group.name for group in Schema.of(["f000", "f001", "f002"], json.loads(description)).groups]

"""What the documents show is run, and what they list is complete."""

import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from app.api.native.routes import ENDPOINTS
from app.api.native.schemas import ROWS
from app.errors import ServiceError
from app.settings import PREFIX, Settings
from bundle.folders import locate
from bundle.manifest import read_manifest
from bundle.schema import Schema
from cli.commands import COMMANDS
from cli.main import load
from jepa_client import JepaClient
from model.export import edifice
from tests.support.forker import TRAINING, run_forked
from tests.support.replays import duel, game
from tests.support.serving import Server

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FIRST_HOUR = DOCS / "first-hour.md"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "client/README.md")]
PAGES += sorted([*DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
MAX_COLUMNS = 120
# A user waits for minutes, a test does not.
SMALL = 'preset="quick", embed_dim=32, predictor_embed_dim=16, encoder_depth=1, predictor_depth=1, num_heads=4'
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
        if page == FIRST_HOUR:  # whose snippets need each other
            continue
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


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client")))}


def run(command, folder):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(code, folder, *arguments):
    """What `python -c code *arguments` prints, in a process that need not import PyTorch."""
    done = run_forked(code, [*map(str, arguments)], ENVIRONMENT, TRAINING, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("code", "output"), fenced("python", shown="json"))
def test_a_python_snippet_runs_as_it_stands_and_prints_what_is_shown(code, output, server, tmp_path):
    if "replays" in code:
        (tmp_path / "replays").mkdir()
        (tmp_path / "replays" / "game.slp").write_bytes(game(duel(100, first=-123)))
    code = code.replace(ADDRESS, f"{server.host}:{server.port}").replace('preset="quick"', SMALL)
    printed = run_python(f"import warnings; warnings.simplefilter('error', DeprecationWarning)\n{code}", tmp_path)
    assert printed.strip() == (output or printed).strip()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs bash and curl")
@pytest.mark.parametrize(("code", "output"), fenced("bash", shown="json"))
def test_a_shell_snippet_runs_as_it_stands_and_prints_something(code, output, server, tmp_path):
    printed = run(["bash", "-euo", "pipefail", "-c", code.replace(ADDRESS, f"{server.host}:{server.port}")], tmp_path)
    assert printed.strip()
    assert printed.strip() == (output or printed).strip()


@pytest.mark.timeout(600)  # a training, an export, and five programs
def test_the_first_hour_leads_from_a_recording_to_a_bot(tmp_path):
    """The example runs the commands of the page, of fewer games and steps; the page's bot asks the model they leave."""
    page, example = FIRST_HOUR.read_text(), ROOT / "examples" / "cartpole.py"
    shown = [words[1:] for name, words in programs() if name == FIRST_HOUR.name and words[0] == "jepa" and words[2:]]
    *before, last = shown
    assert [shlex.split(command) for command in runpy.run_path(str(example))["COMMANDS"]] == before
    assert last == ["serve", "--models", "models"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    short = ["--games", "10", "--steps", "2", "--tests", "1", "--url", url]
    as_main = f"import runpy; runpy.run_path({str(example)!r}, run_name='__main__')"
    printed = run_python(as_main, tmp_path, "all", *short)
    assert "frames of 10 games" in printed
    assert re.search(r"a linear policy on the embedding +\d+\.\d\nwarned in \d+% of its frames\n", printed)
    assert (tmp_path / re.search(r"`(models/\S+\.html)`", page)[1]).is_file()
    (bot,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with Server("--models", str(tmp_path / "models")) as server:
        printed = run_python(bot.replace(ADDRESS, f"{server.host}:{server.port}"), tmp_path)
    assert re.fullmatch(r"(danger \d+ frames on: [01]\.\d\d\n){4}", printed)


def test_the_notebook_leads_from_a_dataframe_to_forecasts(tmp_path):
    """Its cells run one after the other, as in a kernel that was just started; they are kept without outputs."""
    notebook = json.loads((ROOT / "examples" / "first_model.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    printed = run_python("\n".join("".join(cell["source"]) for cell in cells), tmp_path)
    assert "ball ('ball_x', 'ball_y', 'ball_vx', 'ball_vy')" in printed
    assert "(2000, 32) float32\nin another order the same: True" in printed
    assert "['low'] (2000, 1)" in printed
    assert (tmp_path / "models" / "ball" / "2" / "heads.npz").is_file()


@pytest.mark.parametrize("language", RUNTIMES)
def test_a_snippet_in_another_language_gets_the_embedding_that_python_gets(language, server, tmp_path):
    file, command, probe, needed = RUNTIMES[language]
    (code,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / "bots.md").read_text(), re.DOTALL)
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


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not target.startswith("http"):
                path, _, anchor = target.partition("#")
                found = page.parent / path if path else page
                assert found.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


def test_every_page_that_is_mentioned_exists():
    """In code, messages, tests and files of deploy/, which links are not."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".ipynb", ".yml", ".yaml", ".toml", ".conf", ""} and path.is_file():
            for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(errors="replace")):
                assert (ROOT / page).is_file(), f"{name} mentions {page}"


def test_the_readme_leads_to_every_page_and_the_lab_book_to_its_own():
    readme, lab = (ROOT / "README.md").read_text(), DOCS / "lab" / "README.md"
    for page in [*DOCS.glob("*.md"), lab]:
        assert f"({page.relative_to(ROOT)})" in readme
    for page in lab.parent.glob("*.md"):
        assert page == lab or f"({page.name})" in lab.read_text()


def test_lines_of_prose_fit_the_width_of_the_code():
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for line in prose.splitlines():
            assert len(line) <= MAX_COLUMNS or line.startswith("|"), f"{page.name}: {line}"


def test_the_page_of_settings_and_metrics_is_what_its_command_prints():
    printed = run_python(f"import runpy; runpy.run_path({str(DOCS / 'generate.py')!r}, run_name='__main__')", ROOT)
    assert printed == (DOCS / "settings.md").read_text(), "python docs/generate.py > docs/settings.md"


def test_the_settings_page_lists_every_setting_with_its_default_and_description():
    page = (DOCS / "settings.md").read_text()
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or isinstance(field.default, Path) else field.default
        rows.append(f"| `{PREFIX}{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {field.description} |")
    assert re.findall(rf"^\| `{PREFIX}.*$", page, re.MULTILINE) == rows, "the table should be:\n" + "\n".join(rows)


def options_of(path):
    """The options of an endpoint, in a JSON body or beside a binary one; rows are none."""
    (endpoint,) = (each for each in ENDPOINTS if each.path == path)
    return (endpoint.query.model_fields.keys() | endpoint.body.model_fields.keys()) - {*ROWS}


@pytest.mark.parametrize("path", ["/embed", "/predict", "/forecast", "/loss"])
def test_the_http_page_lists_every_option_of_an_endpoint(path):
    section = (DOCS / "http.md").read_text().split("## Options")[1].split("## ")[0]
    listed = re.findall(r"^\| (`\w+[^|]*)\| ([^|]+) \|", section, re.MULTILINE)
    found = {
        option
        for options, where in listed
        if re.search(rf"\b(all|{path[1:]})\b", where)
        for option in re.findall(r"`([a-z_]+)", options)
    }
    # Inputs stand with the rows, and in a binary body they are counted.
    assert found - {"actions"} == options_of(path)


@pytest.mark.parametrize("path", ["/embed", "/predict", "/forecast", "/loss"])
def test_the_client_takes_every_option_of_an_endpoint_and_its_page_shows_it(path):
    taken = inspect.signature(getattr(JepaClient, path[1:])).parameters
    # `input` is which of two arguments was given, `candidates` is in the shape of `actions`, and the hash of the schema
    # belongs to the client.
    assert options_of(path) - {"input", "candidates", "schema_hash"} <= taken.keys()
    (shown,) = re.findall(rf"^\| `{path[1:]}\(([^)]*(?:\(\)[^)]*)*)\)`", (DOCS / "bots.md").read_text(), re.MULTILINE)
    assert [each.split("=")[0] for each in shown.split(", ")] == [name for name in taken if name != "self"]


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
    for name in read_manifest(locate("default")).feature_schema.names:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_the_melee_page_names_every_class_of_actions():
    page = (DOCS / "melee.md").read_text()
    for name in read_manifest(locate("default")).feature_schema.names:
        if name.startswith("own_act_"):
            assert f"`{name.removeprefix('own_act_')}`" in page


def test_the_section_on_elixir_saves_and_describes_as_the_import_asks_for():
    page = (DOCS / "own-game.md").read_text().split("## Weights from Elixir")[1]
    for name in ("encoder", "predictor"):
        assert edifice.SAVE.format(path=f"{name}.safetensors") in page
    assert edifice.LOAD.format(path="encoder.nx") in page
    (description,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert [group.name for group in Schema.of(["f000", "f001", "f002"], json.loads(description)).groups]

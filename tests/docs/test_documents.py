"""What the documents show is run, and what they list is complete."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from app.settings import PREFIX, Settings
from tests.support.serving import Server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_runs_as_it_stands(code, server, tmp_path):
    code = code.replace("http://127.0.0.1:8000", server.url)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


def test_the_settings_page_lists_every_setting_with_its_default_and_description():
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or isinstance(field.default, Path) else field.default
        row = f"| `{PREFIX}{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {field.description} |"
        assert row in page, f"docs/settings.md lacks this line:\n{row}"


def test_every_variable_of_the_compose_file_and_the_image_is_a_setting():
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in ("docker-compose.yml", "Dockerfile"):
        for variable in re.findall(r"\bJEPA_[A-Z_]+\b", (ROOT / name).read_text()):
            assert variable in known, f"{name} sets {variable}"


def test_the_image_is_unprivileged_checked_and_without_torch():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert "[train]" not in text


def test_every_dependency_is_pinned_and_no_host_is_named():
    constraints = (ROOT / "constraints.txt").read_text()
    assert "://" not in constraints
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in constraints.splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        name = re.split(r"[\[<>=;]", requirement)[0].lower()
        assert name in pinned | {"jepa-serve"}, f"{name} is not in constraints.txt"

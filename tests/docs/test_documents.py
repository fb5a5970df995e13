"""What the documents show is run, and what they list is complete."""

import os
import re
import subprocess
import sys
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

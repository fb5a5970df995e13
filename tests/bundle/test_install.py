"""The commands that messages name are those of the tool that installed the program."""

import sys
from pathlib import Path

import pytest

from bundle.install import how_to_install


@pytest.mark.parametrize(
    ("left_by", "itself", "training", "client"),
    [
        (
            None,
            "pip install -c constraints.txt -e .",
            "pip install -c constraints.txt -e '.[train]'",
            "pip install './client[slippi]'",
        ),
        (
            "uv-receipt.toml",
            "uv tool install --force .",
            "uv tool install --force '.[train]'",
            "uv tool install --force '.[train]' --with './client[slippi]'",
        ),
        (
            "pipx_metadata.json",
            "pipx install --force .",
            "pipx install --force '.[train]'",
            "pipx inject jepa-serve './client[slippi]'",
        ),
    ],
    ids=["pip", "uv", "pipx"],
)
def test_a_missing_package_comes_by_the_tool_that_installed_the_rest(
    left_by: str | None, itself: str, training: str, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if left_by is not None:
        (tmp_path / left_by).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    said = [how_to_install(), how_to_install("train"), how_to_install(client="slippi")]
    where = "in the folder that jepa-serve was cloned into"
    assert said == [f"install it with: {command}, {where}" for command in (itself, training, client)]

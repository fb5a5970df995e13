"""The picture of few labels, and the numbers that are kept for it."""

import json
from pathlib import Path

import pytest

from benchmarks.lab import few_labels
from benchmarks.lab.few_labels import SCHEMES, draw, few_labels_figure, kept

CELL = {"auc": 0.7, "draws": 3, "error": 0.01}
DOCUMENT = {
    "model": "melee", "version": 1, "split": "val", "rows": 100, "test_rows": 50, "seed": 0, "scores": {"raw": {}},
    "few_labels": {
        "y_up": {
            "target": {"1": CELL, "2": CELL | {"auc": 0.8}, "5": CELL | {"error": None}},
            "raw, boosted trees": {"1": CELL | {"auc": None}, "2": CELL},
            "untrained": {"1": CELL},
        },
        "y_down": {"raw": {"1": CELL}},
    },
}  # fmt: skip


def test_the_numbers_of_few_labels_are_kept_with_how_they_were_made() -> None:
    found = kept(DOCUMENT)
    assert found["few_labels"] == DOCUMENT["few_labels"]
    assert (found["split"], found["rows"], found["seed"]) == ("val", 100, 0)
    assert "scores" not in found
    with pytest.raises(ValueError, match="no file of `jepa eval --out` with few labels"):
        kept({"model": "melee", "few_labels": {}})


def test_each_label_has_a_panel_with_the_lines_that_could_be_measured() -> None:
    up, down = few_labels_figure(DOCUMENT, SCHEMES["light"]).axes
    assert [len(up.containers), len(down.containers)] == [2, 1]
    assert [up.get_title(), down.get_title()] == ["up", "down"]
    assert up.get_xticks().tolist() == [1, 2, 5]
    assert up.containers[0].get_label() == "embedding, linear"


def test_it_is_drawn_for_light_and_dark_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_labels, "KEPT", tmp_path / "few_labels.json")
    (tmp_path / "few_labels.json").write_text(json.dumps(DOCUMENT))
    light, dark = draw(tmp_path)
    assert (light.name, dark.name) == ("few-labels-light.png", "few-labels-dark.png")
    assert light.read_bytes() != dark.read_bytes()

"""The model card that a training leaves in its bundle."""

import tomllib
from dataclasses import replace

import pytest
import yaml

from bundle.schema import Group, Schema
from model.export.card import MAX_GROUPS, model_card
from model.training.recipe import Recipe
from model.training.run import prepare
from tests.support.games import make_games
from tests.support.small_run import SMALL


@pytest.fixture(scope="module")
def checkpoint():
    made = prepare(make_games(episodes=3, length=30), SMALL).checkpoint
    made.summary.licence, made.summary.data = "MIT", {"source": "games.parquet"}
    made.summary.record(6, {"objective": 3.25, "loss": 0.5, "loss_ratio": 0.75, "std": 1.0, "rankme": 9.0})
    made.made = {"preset": "quick", "command": "jepa train games.parquet", "choices": {"exclude": ["x*"]}}
    return made


def front_matter(card):
    _, text, rest = card.split("---\n", 2)
    assert rest.startswith("# Model card: toy\n")
    return yaml.safe_load(text)


def test_the_hub_reads_licence_tags_data_and_metrics(checkpoint):
    about = front_matter(model_card(checkpoint, "toy"))
    assert about["license"] == "mit"
    assert about["pipeline_tag"] == "feature-extraction"
    assert {"jepa", "onnx"} <= {*about["tags"]}
    (result,) = about["model-index"][0]["results"]
    assert result["dataset"]["name"] == "games.parquet"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == checkpoint.summary.metrics


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("", {"license": "unknown"}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ('my "own": é\u2028 😀\n---', {"license": "other", "license_name": 'my "own": é 😀---'}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_has_a_name(checkpoint, licence, found):
    other = replace(checkpoint, summary=replace(checkpoint.summary, licence=licence))
    assert found.items() <= front_matter(model_card(other, "toy")).items()


def test_it_says_how_the_model_was_made_by_a_recipe_that_can_be_used_again(checkpoint):
    card = model_card(checkpoint, "toy")
    assert "\n    jepa train games.parquet\n" in card
    assert r'* exclude: \["x\*"\]' in card
    assert Recipe.from_dict(tomllib.loads(card.split("```toml\n")[1].split("```")[0])) == SMALL
    assert "| own | 3 | own\\_x, own\\_y, own\\_action\\_id |" in card


def test_names_of_users_do_not_change_the_page_and_many_are_counted(checkpoint):
    names = tuple(f"a|b`<script>{i}" for i in range(MAX_GROUPS + 5))
    groups = tuple(Group(f"g*{i}", i, i + 1) for i in range(len(names)))
    card = model_card(replace(checkpoint, schema=Schema(names, groups)), "toy")
    assert r"| g\*0 | 1 | a\|b\`\<script\>0 |" in card
    assert "| 5 more | |" in card

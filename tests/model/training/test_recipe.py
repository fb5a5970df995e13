"""Every field of a recipe is checked, and written so that it can be read again."""

import tomllib

import pytest

from model.training.recipe import FIELDS, PRESETS, Recipe, of_preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_written_as_toml_is_read_as_the_same(name):
    recipe = of_preset(name).changed({"tokens": "groups", "horizons": [7], "learning_rate": 1e-5, "symmetries": False})
    assert Recipe.from_dict(tomllib.loads(recipe.as_toml())) == recipe


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["words", None, {}, [], float("nan"), float("inf"), -1, [-1], [True], 10**30, [[]]])
def test_a_value_that_no_field_can_have_is_quoted_and_what_is_right_is_said(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is .*; it must be "):
        Recipe().changed({field: value})


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("steps", 4e3, 4000),
        ("learning_rate", 1, 1.0),
        ("horizons", [30, 5, 30], (5, 30)),
        ("horizons", 6, (6,)),
        ("hide_share", [0, 0.5], (0.0, 0.5)),
    ],
)
def test_a_number_takes_the_type_of_its_field(field, given, kept):
    found = getattr(Recipe().changed({field: given}), field)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1}, "learning_rat is no field of a recipe; did you mean learning_rate?"),
        ({"zzz": 1}, "zzz is no field of a recipe; the fields are embed_dim, "),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number from 1 to 1,000,000,000"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"symmetries": 1}, "symmetries is 1; it must be true or false"),
        ({"horizons": [0, 5]}, r"horizons is \[0, 5\]; it must be up to 100 whole numbers of frames from 1"),
        ({"hide_share": [0.5, 0.2]}, r"hide_share is \[0.5, 0.2\]; it must be two numbers from 0 to 0.99"),
        ({"embed_dim": 250}, "embed_dim is 250, which num_heads 8 does not divide; 248 would do"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_right(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe().changed(values)


def test_fields_that_only_go_together_may_be_changed_together():
    assert Recipe().changed({"embed_dim": 30, "predictor_embed_dim": 20, "num_heads": 10}).num_heads == 10


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="preset is 'huge'; it must be one of quick, default"):
        of_preset("huge")

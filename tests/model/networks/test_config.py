import pytest

from bundle.schema import Group
from model.networks.config import Config, Patch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dim": 0}, "input_dim is 0; it must be a whole number of at least 1"),
        ({"encoder_depth": 0}, "encoder_depth is 0"),
        ({"predictor_depth": -1}, "predictor_depth is -1"),
        ({"num_heads": True}, "num_heads is True"),
        ({"embed_dim": 12}, "embed_dim is 12, which num_heads 8 does not divide; 8 would do"),
        ({"predictor_embed_dim": 20}, "predictor_embed_dim is 20, which num_heads 8 does not divide; 16 would do"),
        ({"mlp_ratio": 0}, "mlp_ratio is 0; it must be above 0"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"patches": 0}, "patches is 0; a row of 20 columns is cut into 1 to 20"),
        ({"patches": 21}, "patches is 21"),
        ({"patches": [("a", 0, 5), ("b", 6, 20)]}, "group 'b' starts at column 6; it must start at 5"),
        ({"patches": [("a", 0, 5), ("a", 5, 20)]}, "repeat a name"),
        ({"patches": [("a", 0, 0), ("b", 0, 20)]}, "is empty"),
        ({"patches": [("a", 0, 5)]}, "groups end at column 5; they must cover all 20 columns"),
        ({"patches": {"a": [("x", 0, 20)], "b": []}}, "patches has 'b' without a group"),
        ({"horizons": []}, "horizons is"),
        ({"horizons": [6, 6]}, "horizons is"),
        ({"horizons": [-1]}, "horizons is"),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**({"input_dim": 20} | options))


def test_a_number_of_patches_cuts_equal_consecutive_chunks():
    assert [(g.start, g.stop) for g in Config(287, patches=8).groups] == [
        (287 * i // 8, 287 * (i + 1) // 8) for i in range(8)
    ]


def test_a_short_row_gets_a_patch_a_column():
    assert len(Config(4).patches) == 4


def test_a_mapping_puts_several_groups_into_one_patch():
    config = Config(20, patches={"sides": [("own", 0, 5), ("other", 9, 20)], "stage": [("stage", 5, 9)]})
    assert config.patches[0] == Patch("sides", (Group("own", 0, 5), Group("other", 9, 20)))
    assert [group.name for group in config.groups] == ["own", "stage", "other"]


def test_a_config_survives_json():
    config = Config(20, patches={"all": [("own", 0, 5), ("rest", 5, 20)]}, horizons=(6, 30))
    assert Config.from_dict(config.as_dict()) == config

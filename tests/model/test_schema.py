import pytest

from model.schema import Group, Schema, equal_groups


def test_the_hash_knows_names_and_order():
    groups = equal_groups(3, 1)
    assert Schema(("a", "b", "c"), groups).hash == Schema(("a", "b", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("b", "a", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("a", "b", "c"), equal_groups(3, 2)).hash


def test_a_name_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"names has \['a'\] more than once"):
        Schema(("a", "a"), (Group("all", 0, 2),))

import pytest

from bundle.schema import Group, Schema, equal_groups, group_of_columns, read_description


def test_the_hash_knows_names_and_order():
    groups = equal_groups(3, 1)
    assert Schema(("a", "b", "c"), groups).hash == Schema(("a", "b", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("b", "a", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("a", "b", "c"), equal_groups(3, 2)).hash


def test_a_name_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"names has \['a'\] more than once"):
        Schema(("a", "a"), (Group("all", 0, 2),))


def test_a_description_may_name_columns_and_groups_or_leave_them():
    names = [f"f{i}" for i in range(9)]
    assert Schema.of(names, {}) == Schema(tuple(names), equal_groups(9, 8))
    assert Schema.of(names, {"names": list("abcdefghi"), "sides": {}}).names == tuple("abcdefghi")
    groups = [["own", 0, 4], {"name": "rest", "start": 4, "stop": 9}]
    assert Schema.of(names, {"groups": groups}).groups == (Group("own", 0, 4), Group("rest", 4, 9))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"names": ["a"]}, "names is a list of 1; it must list 2 strings, one a column"),
        ({"names": "ab"}, "names is 'ab'; it must list 2 strings"),
        ({"names": ["a", 1]}, "names is a list of 2; it must list 2 strings"),
        ({"groups": {"own": [0, 2]}}, r"groups is {'own': \[0, 2\]}; it must be a list of \[name, start, stop\]"),
        ({"groups": [["own", 0]]}, r"groups has \['own', 0\]; a group is \[name, start, stop\]"),
        ({"groups": [["own", 0, "2"]]}, "a group is"),
        ({"groups": [["own", 0, 3]]}, "groups end at column 3; they must cover all 2 columns"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(about, message):
    with pytest.raises(ValueError, match=message):
        Schema.of(["a", "b"], about)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{names", "schema.json is no JSON"), (b"\xff", "schema.json is no JSON"), (b"[1]", "schema.json holds a list")],
)
def test_a_file_that_describes_nothing_is_named(tmp_path, content, message):
    (tmp_path / "schema.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path / "schema.json")


def test_every_column_has_the_place_of_its_group():
    assert group_of_columns((Group("a", 0, 2), Group("b", 2, 3), Group("c", 3, 5))) == [0, 0, 1, 2, 2]

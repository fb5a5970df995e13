import json

import pytest

from bundle.schema import (
    Group,
    Schema,
    check_groups,
    equal_groups,
    group_of_columns,
    read_description,
    schema_hash,
)


def test_the_hash_knows_names_and_order():
    groups = equal_groups(3, 1)
    assert Schema(("a", "b", "c"), groups).hash == Schema(("a", "b", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("b", "a", "c"), groups).hash
    assert Schema(("a", "b", "c"), groups).hash != Schema(("a", "b", "c"), equal_groups(3, 2)).hash


def test_the_schema_hash_is_that_of_the_contract():
    schema = {"names": ["b", "a"], "groups": [{"name": "g", "start": 0, "stop": 2}]}
    # sha256 of {"groups":[{"name":"g","start":0,"stop":2}],"names":["b","a"]}
    expected = "0df3f7930ce4c087c797dbed3aaceddec33542ceb77efd937200c2cc3a1897f4"
    assert schema_hash(schema) == expected
    assert Schema(("b", "a"), (Group("g", 0, 2),)).hash == expected


def test_a_schema_survives_json():
    schema = Schema(("a", "b", "c"), (Group("own", 0, 2), Group("rest", 2, 3)))
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema


@pytest.mark.parametrize("document", [None, [], "names", {}, {"names": "ab", "groups": []}, {"names": ["a"]}])
def test_what_is_no_schema_is_refused(document):
    with pytest.raises(ValueError, match="must hold names, a list of strings, and groups, a list of objects"):
        Schema.from_dict(document)


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([("a", 0, 2), ("b", 3, 5)], "group 'b' starts at column 3; it must start at 2"),
        ([("a", 0, 3), ("b", 2, 5)], "group 'b' starts at column 2; it must start at 3"),
        ([("b", 2, 5), ("a", 0, 2)], "group 'b' starts at column 2; it must start at 0"),
        ([("a", 0, 0), ("b", 0, 5)], r"group 'a' \[0, 0\) is empty; stop must exceed start"),
        ([("a", 0, 6)], "groups end at column 6; they must cover all 5 columns of input_dim"),
        ([], "groups end at column 0; they must cover all 5 columns of input_dim"),
    ],
)
def test_groups_that_leave_a_gap_overlap_or_end_elsewhere_are_refused(groups, problem):
    with pytest.raises(ValueError, match=f"groups must cut the columns 0 … 5 into consecutive parts: {problem}"):
        check_groups([Group(*group) for group in groups], 5)


def test_two_groups_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"groups \['a', 'a'\] repeat a name; every group needs a name of its own"):
        check_groups([Group("a", 0, 2), Group("a", 2, 5)], 5)


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

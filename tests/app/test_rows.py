import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, MalformedBody, ServiceError, TooManyRows
from app.rows import (
    MAX_VDOT_NUMBERS,
    Fields,
    Layout,
    all_finite,
    binary_rows,
    float32_bytes,
    json_bytes,
    json_rows,
    may_hold_booleans,
    parse_json,
)

LAYOUT = Layout("features", 3, "melee", columns=("x", "y", "z"), can_hide=True)
float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rows_of(text: str, layout: Layout = LAYOUT, max_rows: int = 4) -> np.ndarray:
    body = text.encode()
    rows, single = json_rows(parse_json(body), layout, max_rows, booleans=may_hold_booleans(body))
    return rows[0] if single else rows


def error_of(text: str) -> tuple[tuple[str | int, ...], str]:
    with pytest.raises(InvalidInput) as refusal:
        rows_of(text)
    (error,) = refusal.value.errors
    return error


def test_rank_out_is_rank_in() -> None:
    assert rows_of("[1, 2.5, -3]").tolist() == [1, 2.5, -3]
    assert rows_of("[[1, 2.5, -3]]").tolist() == [[1, 2.5, -3]]
    assert rows_of("[1, 2, 3]").dtype == np.float32


@pytest.mark.parametrize(
    ("text", "loc", "message"),
    [
        ('[[1, 2, "3"]]', ("features", 0, 2), "features[0][2] (z) is text; write the number without quotes"),
        ("[[1, 2, 3], [true, 2, 3]]", ("features", 1, 0), "features[1][0] (x) is a boolean; write 1 or 0"),
        ("[1, null, 3]", ("features", 1), "features[1] (y) is null; replace it"),
        ("[1, NaN, 3]", ("features", 1), 'features[1] (y) is NaN; replace it, or hide its group with "hidden"'),
        ("[[[1, 2, 3]]]", ("features", 0, 0), "features[0][0] (x) is a list; a row is a flat list of numbers"),
        ("[1, [2], 3]", ("features", 1), "features[1] (y) is a list; a row is a flat list of numbers"),
        ("[{}]", ("features", 0), "features[0] (x) is an object; a row is a flat list of numbers"),
        ("[[1, 2, 3], 4]", ("features", 1), "features[1] is not a list; send either one row or a list of rows"),
        (
            "[[1, 2, 3], [1, 2]]",
            ("features", 1),
            "features[1] has 2 numbers, model 'melee' takes 3; /models/melee names them in order",
        ),
        ("[1]", ("features",), "features has 1 number, model 'melee' takes 3; /models/melee names them in order"),
        (
            "[[1, 2, 3, 0]]",
            ("features", 0),
            "features[0] has 4 numbers, model 'melee' takes 3; if the last one is padding, leave it out",
        ),
        (
            "[[]]",
            ("features", 0),
            "features[0] has 0 numbers, model 'melee' takes 3; /models/melee names them in order",
        ),
        ("[]", ("features",), "features is empty; send at least one row"),
        ('"abc"', ("features",), "features must be a list of numbers, or a list of such rows"),
    ],
)
def test_a_wrong_number_or_row_is_named_with_the_way_to_mend_it(
    text: str, loc: tuple[str | int, ...], message: str
) -> None:
    assert error_of(text) == (loc, message)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999", "1e39", "1" + "0" * 39, "9" * 5000])
def test_what_float32_cannot_hold_is_refused(number: str) -> None:
    loc, message = error_of(f"[[1, 2, {number}]]")
    assert loc == ("features", 0, 2)
    assert "is infinite or beyond float32" in message


def test_a_field_that_cannot_be_hidden_is_not_told_to_hide() -> None:
    with pytest.raises(InvalidInput, match=r"is NaN; replace it$"):
        rows_of("[1, NaN]", Layout("context", 2, "melee"))


def test_too_many_rows_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(TooManyRows, match="5 rows, the limit is 4"):
        rows_of("[[1], [2], [3], [4], [5]]")
    with pytest.raises(TooManyRows):
        binary_rows(bytes(12 * 5), Fields(LAYOUT), 4)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1,}', b"\xff\xfe\x00", b"[" * 100_000, b"hello"])
def test_what_is_no_json_is_malformed_and_says_where(body: bytes) -> None:
    with pytest.raises(MalformedBody, match=r"no JSON: .*line 1 column"):
        parse_json(body)


@given(st.lists(st.tuples(float32, float32, float32), min_size=1, max_size=4))
def test_json_and_binary_read_the_same_rows(rows: list[tuple[float, float, float]]) -> None:
    flat = [number for row in rows for number in row]
    (from_binary,) = binary_rows(struct.pack(f"<{len(flat)}f", *flat), Fields(LAYOUT), 4)
    from_json = rows_of(json.dumps(rows))
    np.testing.assert_array_equal(from_binary, from_json)
    assert from_binary.dtype == np.float32


@given(st.lists(float32, min_size=1, max_size=20))
def test_what_is_written_reads_back_the_same(numbers: list[float]) -> None:
    rows = np.array([numbers], np.float32)
    read = np.array(json.loads(json_bytes({"rows": rows}))["rows"], np.float32)
    np.testing.assert_array_equal(read, rows)
    assert float32_bytes(rows) == struct.pack(f"<{len(numbers)}f", *numbers)


def test_float32_is_written_with_the_fewest_digits() -> None:
    assert json_bytes([np.array([0.1], np.float32)]) == b"[[0.1]]"


def test_fields_of_a_binary_row_stand_side_by_side() -> None:
    body = struct.pack("<6f", *range(6))
    features, later = binary_rows(body, Fields(LAYOUT, Layout("target_features", 3, "melee")), 4)
    assert features.tolist() == [[0, 1, 2]]
    assert later.tolist() == [[3, 4, 5]]


def test_a_binary_nan_is_named_by_field_row_and_column() -> None:
    body = struct.pack("<12f", *range(10), math.nan, 11)
    fields = Fields(LAYOUT, Layout("target_features", 3, "melee", ("x", "y", "z")))
    with pytest.raises(InvalidInput) as refusal:
        binary_rows(body, fields, 4)
    assert refusal.value.errors == ((("target_features", 1, 1), "target_features[1][1] (y) is NaN; replace it"),)


def test_binary_of_the_wrong_length_says_what_a_row_takes() -> None:
    with pytest.raises(InvalidInput, match=r"takes 3 float32 numbers, 12 bytes, a row$"):
        binary_rows(bytes(13), Fields(LAYOUT), 4)
    with pytest.raises(InvalidInput, match="if number 4 of each row is padding, leave it out"):
        binary_rows(bytes(16), Fields(LAYOUT), 4)
    with pytest.raises(InvalidInput, match="the body is empty"):
        binary_rows(b"", Fields(LAYOUT), 4)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
cells = st.floats(width=32) | scalars | st.lists(scalars, max_size=1) | st.dictionaries(st.text(max_size=1), scalars)
lists = st.lists(cells, min_size=2, max_size=4) | st.lists(float32, min_size=3, max_size=3)
bodies = st.binary(max_size=80) | st.lists(float32, max_size=20).map(lambda row: np.array(row, np.float32).tobytes())


@given(scalars | lists | st.lists(lists | cells, max_size=5))
def test_whatever_json_holds_becomes_finite_rows_or_is_refused(value: object) -> None:
    try:
        body = json.dumps(value).encode()
        rows, _ = json_rows(parse_json(body), LAYOUT, 4, booleans=may_hold_booleans(body))
    except ServiceError:
        return
    assert rows.shape[1] == LAYOUT.width
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows, np.array(value, np.float64).astype(np.float32).reshape(rows.shape))


@given(bodies, st.sampled_from([Fields(LAYOUT), Fields(LAYOUT, Layout("other", 2, "melee"))]))
def test_whatever_bytes_come_they_become_finite_rows_or_are_refused(body: bytes, fields: Fields) -> None:
    try:
        found = binary_rows(body, fields, 9)
    except ServiceError:
        assert len(body) % (4 * fields.width) or not body or not np.isfinite(np.frombuffer(body, "<f4")).all()
        return
    assert np.hstack(found).tobytes() == body


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_whatever_bytes_come_they_are_json_or_malformed(body: bytes) -> None:
    try:
        parse_json(body)
    except MalformedBody:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


@pytest.mark.parametrize("number", [0.0, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("size", [287, MAX_VDOT_NUMBERS + 1])
def test_numbers_whose_squares_overflow_are_finite_and_nothing_warns(number: float, size: int) -> None:
    rows = np.full((2, size), 3.4e38, np.float32)
    rows[1, 5] = number
    assert all_finite(rows) == np.isfinite(number)

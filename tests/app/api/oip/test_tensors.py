from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.api.oip.schemas import InferInput, InferOutput
from app.api.oip.tensors import Input, read_inputs, read_raw, split, write
from app.errors import InvalidInput, MalformedBody, ServiceError, TooManyRows
from app.rows import Layout, parse_json

FIRST = Input(Layout("first", 3, "tiny", ("a", "b", "c")))
SECOND = Input(Layout("second", 2, "tiny"), ("FP32", "BOOL"), optional=True)
FLAT = Input(Layout("flat", 1, "tiny"), ("FP32", "INT64"), optional=True, flat=True)
TAKEN = (FIRST, SECOND, FLAT)
MAX_ROWS = 9


def rows(width: int) -> Any:
    """[1 … MAX_ROWS, width], finite."""
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return st.integers(1, MAX_ROWS).flatmap(lambda count: arrays.arrays(np.float32, (count, width), elements=numbers))


def sent(name: str, values: np.ndarray, datatype: str = "FP32", *, binary: bool = True) -> tuple[InferInput, bytes]:
    """The tensor as the JSON has it, and what follows the JSON."""
    blob = values.tobytes() if binary else b""
    given = {"parameters": {"binary_data_size": len(blob)}} if binary else {"data": values.tolist()}
    return InferInput.model_validate({"name": name, "shape": values.shape, "datatype": datatype, **given}), blob


@given(rows(3), st.booleans(), st.booleans())
def test_what_is_written_reads_back_the_same_bit_by_bit(values: np.ndarray, binary: bool, flat: bool) -> None:
    written = write({"model_name": "tiny"}, {"first": values, "other": values[:, 0]}, [], binary)
    header, rest = split(written.body, len(written.body) if written.header is None else written.header)
    document = parse_json(header)
    assert document["model_name"] == "tiny"
    assert [each["shape"] for each in document["outputs"]] == [list(values.shape), [len(values)]]
    tensor = document["outputs"][0]
    if not flat and not binary:
        tensor["data"] = np.reshape(tensor["data"], values.shape).tolist()
    found = read_inputs([InferInput.model_validate(tensor)], rest[: values.nbytes], [FIRST], MAX_ROWS)
    np.testing.assert_array_equal(found["first"].view(np.uint32), values.view(np.uint32))


@given(rows(3), st.permutations(["first", "second", "flat"]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_binary_and_json_inputs_mix_in_any_order(values: np.ndarray, order: list[str], binary: list[bool]) -> None:
    count = len(values)
    made = {
        "first": (values, "FP32"),
        "second": (np.arange(2 * count).reshape(-1, 2) % 3 == 0, "BOOL"),
        "flat": (np.arange(count, dtype="<i8") - 1, "INT64"),
    }
    pairs = [sent(name, *made[name], binary=each) for name, each in zip(order, binary, strict=True)]
    found = read_inputs([tensor for tensor, _ in pairs], b"".join(blob for _, blob in pairs), TAKEN, MAX_ROWS)
    for name, (expected, _) in made.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], expected.reshape(count, -1).astype(np.float32))


@given(rows(3))
def test_a_raw_body_is_the_one_input(values: np.ndarray) -> None:
    np.testing.assert_array_equal(read_raw(values.tobytes(), TAKEN, MAX_ROWS)["first"], values)


def test_outputs_are_those_that_are_wanted_in_the_form_that_is_wanted() -> None:
    outputs = {"a": np.array([[1, 2]], np.float32), "b": np.array([3], np.float32)}
    wanted = [
        InferOutput.model_validate({"name": "b", "parameters": {"binary_data": False}}),
        InferOutput.model_validate({"name": "a"}),
    ]
    written = write({}, outputs, wanted, binary=True)
    assert written.header is not None
    document = parse_json(written.body[: written.header])
    assert document["outputs"] == [
        {"name": "b", "datatype": "FP32", "shape": [1], "data": [3.0]},
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    assert written.body[written.header :] == outputs["a"].tobytes()


ROW = np.zeros((1, 3), np.float32)
GIVEN = {"name": "first", "shape": [1, 3], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("tensor", "blob", "message"),
    [
        ({"shape": [1, 4]}, b"", "first has 4 numbers, model 'tiny' takes 3; if the last one is padding"),
        ({"shape": [0, 3], "data": []}, b"", "first is empty; send at least one row"),
        ({"shape": [3], "data": [0, 0, 0]}, b"", r"first has shape \[3\], model 'tiny' takes \[-1, 3\]"),
        ({}, b"", "must have either data or, in parameters, binary_data_size"),
        ({"data": [0, 0, 0], "parameters": {"binary_data_size": 12}}, bytes(12), "must have either data or"),
        ({"data": [0, 0]}, b"", r"first has 2 numbers, but its shape \[1, 3\] takes 3"),
        ({"data": [[0, 0, 0], [0, 0, 0]]}, b"", r"first has 2 rows, but its shape \[1, 3\] says 1"),
        ({"data": [[0, 0]]}, b"", r"first\[0\] has 2 numbers"),
        ({"data": [0, True, 0]}, b"", r"first\[0\]\[1\] \(b\) is a boolean; write 1 or 0"),
        ({"data": [0, "1", 0]}, b"", r"first\[0\]\[1\] \(b\) is text"),
        ({"data": [0, float("nan"), 0]}, b"", r"first\[0\]\[1\] \(b\) is NaN; replace it"),
        ({"data": {"0": 1}}, b"", "first must be a list"),
        ({"parameters": {"binary_data_size": 8}}, bytes(8), r"8 bytes of binary data, but its shape .* takes 12"),
        (
            {"parameters": {"binary_data_size": 12}},
            np.array([0, np.inf, 0], np.float32).tobytes(),
            r"\(b\) is infinite",
        ),
        ({"datatype": "BOOL", "data": [True, True, True]}, b"", r"datatype BOOL, model 'tiny' takes FP32; convert it"),
        ({"name": "third", "data": [0, 0, 0]}, b"", r"inputs\[0\] is no input of this model; it takes 'first'"),
    ],
)
def test_a_tensor_that_is_wrong_is_refused_with_the_way_to_mend_it(
    tensor: dict[str, Any], blob: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_inputs([InferInput.model_validate(GIVEN | tensor)], blob, TAKEN, MAX_ROWS)


def test_inputs_that_do_not_go_together_are_refused() -> None:
    (first, blob), (second, other) = sent("first", ROW), sent("second", np.zeros((2, 2), np.float32))
    with pytest.raises(InvalidInput, match="first has 1 rows and second has 2 rows; send as many"):
        read_inputs([first, second], blob + other, TAKEN, MAX_ROWS)
    with pytest.raises(InvalidInput, match="first is given twice"):
        read_inputs([first, first], 2 * blob, TAKEN, MAX_ROWS)
    with pytest.raises(InvalidInput, match=r"first is missing; the model takes it with shape \[-1, 3\]"):
        read_inputs([], b"", TAKEN, MAX_ROWS)
    with pytest.raises(MalformedBody, match=r"13 bytes follow the JSON, but the binary_data_size .* add up to 12"):
        read_inputs([first], blob + b"x", TAKEN, MAX_ROWS)
    many, numbers = sent("first", np.zeros((MAX_ROWS + 1, 3), np.float32))
    with pytest.raises(TooManyRows, match="the request has 10 rows, the limit is 9"):
        read_inputs([many], numbers, TAKEN, MAX_ROWS)


def test_a_raw_body_does_not_say_which_of_two_inputs_it_is() -> None:
    two = (FIRST, Input(Layout("second", 3, "tiny")))
    with pytest.raises(InvalidInput, match="the model takes 'first', 'second'; send Inference-Header-Content-Length"):
        read_raw(ROW.tobytes(), two, MAX_ROWS)


def test_a_header_longer_than_the_body_is_malformed() -> None:
    with pytest.raises(MalformedBody, match="is 9, but the body has 8 bytes"):
        split(bytes(8), 9)


cells = st.floats(width=32) | st.booleans() | st.none() | st.integers() | st.text(max_size=1)
wrong = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["first", "second", "flat", "other"]),
        "shape": st.lists(st.integers(0, 3) | st.integers(0, 2**70), max_size=3),
        "datatype": st.sampled_from(["FP32", "BOOL", "INT64", "FP16"]),
        "data": st.lists(cells, max_size=9) | st.lists(st.lists(cells, max_size=4), max_size=3),
        "parameters": st.fixed_dictionaries(
            {"binary_data_size": st.none() | st.integers(0, 40) | st.integers(0, 2**70)}
        ),
    },
)


@st.composite
def claimed(draw: st.DrawFn) -> tuple[list[InferInput], bytes]:
    """Inputs that may contradict themselves, each other, the model, and the bytes behind them."""
    count, tensors, blobs = draw(st.integers(1, 3)), [], []
    for name, width in draw(st.permutations([("first", 3), ("second", 2), ("flat", 1)])):
        tensor, blob = sent(name, np.full((count, width), draw(st.floats(width=32)), "<f4"), binary=draw(st.booleans()))
        changed = draw(st.just({}) | wrong)
        tensors.append(InferInput.model_validate(tensor.model_dump() | changed))
        blobs.append(draw(st.just(blob) | st.binary(min_size=len(blob), max_size=len(blob))))
    return tensors, b"".join(blobs)


@given(claimed())
# Drawing is slow on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_whatever_inputs_claim_they_become_finite_rows_or_are_refused(inputs: tuple[list[InferInput], bytes]) -> None:
    try:
        found = read_inputs(*inputs, TAKEN, MAX_ROWS)
    except ServiceError:
        return
    widths = {each.name: each.layout.width for each in TAKEN}
    assert "first" in found
    for name, rows in found.items():
        assert rows.shape == (len(found["first"]), widths[name])
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()


@given(st.binary(max_size=60))
def test_a_raw_body_of_any_bytes_becomes_finite_rows_or_is_refused(body: bytes) -> None:
    try:
        found = read_raw(body, TAKEN, MAX_ROWS)
    except ServiceError:
        return
    assert found["first"].tobytes() == body

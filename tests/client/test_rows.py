from typing import Any

import numpy as np
import pytest

from jepa_client.rows import from_bytes, side_by_side, to_rows


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, ">f4", "<f4"])
def test_numbers_of_any_width_and_byte_order_become_float32(dtype: str) -> None:
    rows = to_rows("features", np.arange(6).reshape(2, 3).astype(dtype))
    assert rows.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(rows, [[0, 1, 2], [3, 4, 5]])


def test_a_list_of_numbers_is_a_row() -> None:
    np.testing.assert_array_equal(to_rows("features", [1, 2.5]), np.array([1, 2.5], np.float32))


def test_rows_of_a_transposed_or_strided_array_are_sent_in_their_order() -> None:
    columns = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert to_rows("features", columns.T).tobytes() == np.array([[0, 2, 4], [1, 3, 5]], "<f4").tobytes()
    assert to_rows("features", columns[::2]).tobytes() == np.array([[0, 1], [4, 5]], "<f4").tobytes()


def test_what_is_not_finite_is_left_to_the_service() -> None:
    assert np.isnan(to_rows("features", [np.nan, 1])[0])
    assert np.isinf(to_rows("features", [1e300])[0])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            np.float32(1),
            ValueError,
            r"features has shape \(\); send one row \[D\] or rows \[B, D\], such as array",
        ),
        (np.zeros((2, 3, 4)), ValueError, r"features has shape \(2, 3, 4\).* array.reshape\(-1, array.shape\[-1\]\)"),
        ([], ValueError, r"features is empty, its shape is \(0,\); send at least one row"),
        (np.zeros((0, 287)), ValueError, r"features is empty, its shape is \(0, 287\)"),
        ([[1, 2], [3]], ValueError, "features is no array .*all rows must have the same length"),
        ([True, False], TypeError, r"features is of bool; .*convert it with .astype\(np.float32\)"),
        (["1", "2"], TypeError, "features is of <U1"),
        ([1, None], TypeError, "features is of object"),
        (np.zeros(3, complex), TypeError, "features is of complex128"),
    ],
)
def test_what_is_no_row_is_refused_with_how_to_mend_it(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_rows("features", values)


def test_pairs_stand_side_by_side_and_must_be_alike() -> None:
    one = np.ones((2, 3), np.float32)
    assert side_by_side(features=one, target_features=one * 2).tolist() == [[1, 1, 1, 2, 2, 2]] * 2
    with pytest.raises(ValueError, match=r"features has shape \(2, 3\) and target_features has shape \(3,\).*alike"):
        side_by_side(features=one, target_features=one[0])


def test_an_answer_has_the_rank_of_the_rows_and_can_be_written_to() -> None:
    content = np.arange(8, dtype="<f4").tobytes()
    assert from_bytes(content, (3,)).shape == (8,)
    rows = from_bytes(content, (2, 3))
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    rows += 1
    assert from_bytes(content, (1, 3)).shape == (1, 8)


def test_an_answer_to_another_number_of_rows_is_not_passed_off_as_one_to_these() -> None:
    with pytest.raises(ValueError, match=r"3 rows of 10 numbers were sent, .* is the array transposed"):
        from_bytes(np.zeros(8, "<f4").tobytes(), (3, 10))

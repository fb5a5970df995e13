from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.formulas import MAX_FORMULA_CHARS, of_column, parse
from tests.support.memory import peak_bytes

COLUMNS = {
    "x": np.array([-5, 0, 3, 5], np.float32),
    "y": np.array([1, 2, 0, -1], np.float32),
    "obs.speed": np.array([0.5, 1, 2, 4], np.float32),
    "two words": np.array([1, 0, 1, 0]),
    "stage": np.array(["fd", "bf", "fd", "ys"]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", [-5, 0, 3, 5]),
        ("abs(x) > 4.2 and y < 1", [0, 0, 0, 1]),
        ("abs(x) > 4.2 or not y", [1, 0, 1, 1]),
        ("-1 < y <= 1", [1, 0, 1, 0]),
        ("x + 2 * y - 1", [-4, 3, 2, 2]),
        ("x ** 2 / 5", [5, 0, 1.8, 5]),
        ("x // 2", [-3, 0, 1, 2]),
        ("x % 2", [1, 0, 1, 1]),
        ("(x > 0) + (y > 0)", [1, 1, 1, 1]),
        ("-(x > 0)", [0, 0, -1, -1]),
        ("max(x, y, 1)", [1, 2, 3, 5]),
        ("min(x, 0)", [-5, 0, 0, 0]),
        ("where(x > 0, y, 9)", [9, 9, 0, -1]),
        ("y if x > 0 else 9", [9, 9, 0, -1]),
        ("sqrt(abs(sign(x))) + floor(obs.speed)", [1, 1, 3, 5]),
        ("column('two words') == 1", [1, 0, 1, 0]),
        ("stage == 'fd'", [1, 0, 1, 0]),
        ("stage != 'fd' and x >= 0", [0, 1, 0, 1]),
        ("x > 10 ** 10 ** 10", [0, 0, 0, 0]),
    ],
)  # fmt: skip
def test_formulas_are_computed_for_all_rows(text, expected):
    formula = parse(text)
    np.testing.assert_allclose(formula.values({name: COLUMNS[name] for name in formula.columns}), expected)


def test_a_column_of_any_name_is_a_formula():
    formula = of_column("two words")
    np.testing.assert_array_equal(formula.values(COLUMNS), COLUMNS["two words"])
    assert parse(formula.text).columns == ("two words",)
    assert of_column("stage").values(COLUMNS).tolist() == ["fd", "bf", "fd", "ys"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read"),
        ("x >", "cannot be read"),
        ("1 + 2", "names no column"),
        ("__import__('os').system('true')", "has '__import__"),
        ("open('x')", r"has 'open\('x'\)'; it may have names of columns"),
        ("x.__class__.__mro__[0]", "has 'x.__class__.__mro__"),
        ("(lambda: x)()", "it may have"),
        ("[x for x in y]", "it may have"),
        ("x if (y := 1) else 2", "it may have"),
        ("f'{x}'", "it may have"),
        ("x @ y", "it may have"),
        ("x in y", "it may have"),
        ("x & y", "it may have"),
        ("b'a' == x", "it may have"),
        ("1j * x", "it may have"),
        ("None", "it may have"),
        ("abs(x, y)", r"gives abs\(\) 2 values; it takes 1"),
        ("min(x)", r"gives min\(\) 1 values; it takes 2"),
        ("abs(x, key=y)", "it may have"),
        ("abs(*x)", "it may have"),
        ("x = 1", "cannot be read"),
        ("x; y", "cannot be read"),
        ("(" * 3000 + "x" + ")" * 3000, "cannot be read"),
        ("-" * 3000 + "x", "cannot be read"),
        ("x" * (MAX_FORMULA_CHARS + 1), "it may have 10000"),
    ],
)
def test_what_is_no_formula_is_refused_in_words(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(text)


@pytest.mark.parametrize("text", ["stage + 1", "abs(stage)", "-stage", "stage < 1", "stage * x"])
def test_text_can_only_be_compared(text):
    with pytest.raises(ValueError, match="computes with text"):
        parse(text).values(COLUMNS)


def test_huge_numbers_take_no_memory():
    assert peak_bytes(lambda: parse("x ** 9 ** 9 ** 9 ** 9 > 1").values(COLUMNS)) < 2**24


@given(st.text("xy()+-*/%<>=!and or not.0123456789'\"[]{}:,", max_size=60))
def test_any_text_is_a_formula_or_a_sentence(text):
    try:
        formula = parse(text)
    except ValueError:
        return
    values = dict.fromkeys(formula.columns, COLUMNS["x"])
    with suppress(ValueError):  # text with which something is computed
        assert formula.values(values).shape == (4,)

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORT", raising=False)


def test_an_argument_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().max_rows == 1024
    monkeypatch.setenv("JEPA_MAX_ROWS", "5")
    assert Settings().max_rows == 5
    assert Settings(max_rows=6).max_rows == 6


def test_plain_port_counts_where_the_platform_sets_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert Settings().port == 9000
    monkeypatch.setenv("JEPA_PORT", "9001")
    assert Settings().port == 9001
    assert Settings(port=9002).port == 9002


def test_a_misspelt_variable_stops_the_start_and_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA_MAX_BODY_BYTE", "1")
    with pytest.raises(ValidationError, match="JEPA_MAX_BODY_BYTE is not a setting; did you mean JEPA_MAX_BODY_BYTES"):
        Settings()


def test_values_out_of_range_are_refused() -> None:
    for wrong in ({"port": 70_000}, {"max_rows": 0}, {"workers": -1}, {"precision": "float16"}, {"log_level": "loud"}):
        with pytest.raises(ValidationError):
            Settings(**wrong)


def test_the_queue_must_hold_the_largest_request() -> None:
    with pytest.raises(ValidationError, match="max_queue_rows 10 is below max_rows 11; raise it, or lower max_rows"):
        Settings(max_rows=11, max_queue_rows=10)


def test_every_setting_says_what_it_is_and_numbers_say_their_unit() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if name.startswith(("max_", "keep_", "graceful_")):
            assert name.endswith(("_s", "_ms", "_bytes", "_rows")), name


def test_the_bundled_models_are_the_default() -> None:
    assert Settings().models == Path(__file__).parents[2] / "app" / "bundled"


def test_workers_are_forked_so_their_runs_have_one_thread() -> None:
    with pytest.raises(ValidationError, match="workers 2 cannot share graphs that run on intra_op_threads 2; set one"):
        Settings(workers=2, intra_op_threads=2)

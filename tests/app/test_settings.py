from pathlib import Path
from typing import Any

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
            assert name.endswith(("_s", "_ms", "_bytes", "_rows", "_connections")), name


def test_the_bundled_models_are_the_default() -> None:
    assert Settings().models == Path(__file__).parents[2] / "app" / "bundled"


def test_workers_are_forked_so_their_runs_have_one_thread() -> None:
    with pytest.raises(ValidationError, match="workers 2 cannot share graphs that run on intra_op_threads 2; set one"):
        Settings(workers=2, intra_op_threads=2)


def test_keys_come_from_the_variable_and_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the tournament\n\n third-0123456789abc \n")
    settings = Settings(api_keys="first-0123456789abc,second-0123456789abc,", api_keys_file=file)
    assert settings.keys == ["first-0123456789abc", "second-0123456789abc", "third-0123456789abc"]
    assert "0123456789abc" not in repr(settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"api_keys": "first-0123456789abc,short"}, "key 2 of 2 is no key: it must be 16 or more"),
        ({"api_keys": "with a space 0123456789"}, "without spaces; make one with: openssl rand -base64 24"),
        ({"api_keys_file": "KEYS"}, "holds no key; put one on a line of its own"),
        ({"api_keys_file": "missing"}, "api_keys_file missing cannot be read"),
        ({"tls_cert_file": "KEYS"}, "tls_cert_file and tls_key_file go together"),
        ({"tls_cert_file": "KEYS", "tls_key_file": "missing"}, "missing is no file"),
    ],
)
def test_wrong_keys_and_certificates_stop_the_start(tmp_path: Path, wrong: dict[str, str], message: str) -> None:
    (tmp_path / "KEYS").write_text("# none yet\n")
    values: dict[str, Any] = {
        name: str(tmp_path / "KEYS") if value == "KEYS" else value for name, value in wrong.items()
    }
    with pytest.raises(ValidationError, match=message) as refused:
        Settings(**values)
    assert all("with a space" not in error["msg"] for error in refused.value.errors())


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - {"api_keys_file"}))
def test_an_empty_variable_is_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Compose writes `${X:-}` so, and Helm a value that nobody gave."""
    monkeypatch.setenv(f"JEPA_{name.upper()}", "")
    monkeypatch.setenv("PORT", "")
    assert Settings() == Settings.model_construct()


def test_an_empty_port_leaves_the_choice_to_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA_PORT", "")
    monkeypatch.setenv("PORT", "9000")
    assert Settings().port == 9000


@pytest.mark.parametrize("variable", ["JEPA_API_KEYS_FILE", "jepa_api_keys_file"])
def test_an_empty_name_of_a_file_of_keys_opens_no_door(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(ValidationError, match="api_keys_file is empty; name the file of keys, or leave it out"):
        Settings()


def test_what_is_said_of_keys_and_names_none_opens_no_door() -> None:
    for wrong in ({"api_keys_file": ""}, {"api_keys_file": Path("")}, {"api_keys": ","}, {"api_keys": " , "}):
        with pytest.raises(ValidationError, match="let everybody in"):
            Settings(**wrong)
    assert Settings(api_keys="").keys == []

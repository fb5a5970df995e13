"""Loading, pinning and unloading over HTTP: what one process is told, all do."""

import time
from pathlib import Path

import httpx

from tests.support.changes import post, put, served, until, version
from tests.support.serving import Server


def test_a_pinned_version_is_served_by_all_until_the_pin_is_taken_away(server: Server, own_models: Path) -> None:
    put(version(2), own_models)
    until(lambda: served(server) == {2})
    assert post(server, "models/tiny/load", parameters={"version": "1"}).status_code == 200
    assert served(server) == {1}
    put(version(3), own_models)
    time.sleep(0.5)
    assert served(server) == {1}
    index = {each["version"]: each for each in post(server, "index").json()}
    assert index["3"] == {"name": "tiny", "version": "3", "state": "UNAVAILABLE", "reason": "version 1 is served"}
    assert [each["version"] for each in post(server, "index", ready=True).json()] == ["1"]
    assert post(server, "models/tiny/load").status_code == 200
    assert served(server) == {3}


def test_an_unloaded_model_is_gone_in_all_processes_until_it_is_loaded(server: Server, own_models: Path) -> None:
    put(version(1, name="other"), own_models)
    until(lambda: served(server, "/models/other") == {1})
    assert post(server, "models/tiny/unload", parameters={"unload_dependents": False}).status_code == 200
    assert served(server) == {404}
    assert post(server, "models/other/unload").status_code == 200
    assert served(server, "/readyz") == {503}
    assert served(server) == {503}
    again = post(server, "models/tiny/unload")
    assert (again.status_code, again.json()) == (404, {"error": "there is no model of that name; loaded: none"})
    assert {each["reason"] for each in post(server, "index").json()} == {"unloaded"}
    assert post(server, "models/tiny/load").status_code == 200
    assert served(server) == {1}


def test_what_cannot_be_loaded_is_refused_and_changes_nothing(server: Server, own_models: Path) -> None:
    (put(version(2), own_models) / "golden.npz").unlink()
    for path, body, status, text in (
        ("models/tiny/load", {}, 400, "golden.npz is missing"),
        ("models/tiny/load", {"parameters": {"version": "2"}}, 400, "golden.npz is missing"),
        ("models/tiny/load", {"parameters": {"version": "9"}}, 404, "model 'tiny' has no version 9; there is 2, 1"),
        ("models/chess/load", {}, 404, "there is no model of that name in the models folder; there is 'tiny'"),
        ("models/%2e%2e/load", {}, 404, "there is no model of that name in the models folder"),
        ("models/tiny/load", {"parameters": {"version": "0"}}, 400, "parameters.version: Input should be greater"),
        ("models/tiny/load", {"parameters": {"version": True}}, 400, "parameters.version: Input should be a valid int"),
        ("models/tiny/load", {"ready": 0}, 400, "ready: Input should be a valid boolean"),
        ("models/tiny/load", {"parameters": {"config": "{}"}}, 400, "parameters.config: Extra inputs are not"),
    ):
        answer = post(server, path, **body)
        assert answer.status_code == status
        assert text in answer.json()["error"]
    assert httpx.post(f"{server.url}/v2/repository/index", content=b"{").status_code == 400
    assert served(server) == {1}
    assert post(server, "models/tiny/load", parameters={"version": 1}).status_code == 200
    put(version(3), own_models)
    time.sleep(0.3)
    assert served(server) == {1}


def test_models_are_not_changed_over_http_unless_a_setting_allows_it(own_models: Path) -> None:
    with Server("--models", str(own_models)) as server:
        for action in ("load", "unload"):
            answer = post(server, f"models/tiny/{action}")
            assert answer.status_code == 403
            assert "unless JEPA_MODEL_CONTROL is true" in answer.json()["error"]
        assert [each["state"] for each in post(server, "index").json()] == ["READY"]

import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.forker import Fork
from tests.support.serving import ROOT, Server


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    TinyModel().write(folder)
    return folder


PROGRAM = "from cli.main import main; main()"
WIDE = {"COLUMNS": "200", "TERM": "dumb"}


def jepa(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    fork = Fork(PROGRAM, arguments, os.environ | WIDE | env)
    with fork.stderr:
        said = fork.stderr.read()
    return subprocess.CompletedProcess(arguments, fork.wait(timeout=60), stderr=said)


def test_help_lists_every_setting_with_its_variable_and_what_it_does() -> None:
    command = [sys.executable, "-c", PROGRAM, "serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | WIDE, capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"JEPA_{name.upper()}" in text
        assert " ".join(str(field.description).split()[:4]) in text
    assert str(ROOT) not in text


def test_the_signature_is_one_optional_flag_a_setting() -> None:
    from cli.serve import serve

    parameters = inspect.signature(serve).parameters
    assert parameters.keys() == Settings.model_fields.keys()
    assert all(parameter.default is None for parameter in parameters.values())


@pytest.mark.parametrize(
    ("flags", "env", "message"),
    [
        (["--max-rows", "0"], {}, "max_rows: Input should be greater than or equal to 1"),
        (["--max-rows", "9999"], {}, "max_queue_rows 4096 is below max_rows 9999; raise it, or lower max_rows"),
        ([], {"JEPA_PROT": "1"}, "JEPA_PROT is not a setting; did you mean JEPA_PORT?"),
        (["--models", "/nowhere"], {}, "/nowhere is not a folder; --models takes a folder of bundles"),
        (["--host", "192.0.2.1"], {}, "cannot listen on 192.0.2.1:"),
        (["--host", "2001:db8::1"], {}, "cannot listen on [2001:db8::1]:"),
        (["--host", "[2001:db8::1]"], {}, "cannot listen on [2001:db8::1]:"),
        (
            ["--host", "127.0.0.1:9000"],
            {},
            "host: '127.0.0.1:9000' is more than an address such as 127.0.0.1; the port",
        ),
        (["--host", "http://[::1]"], {}, "host: 'http://[::1]' is more than an address"),
        ([], {"JEPA_API_KEYS_FILE": ""}, "api_keys_file is empty; name the file of keys, or leave it out"),
        (["--api-keys-file", ""], {}, "api_keys_file is empty; name the file of keys, or leave it out"),
    ],
)
def test_a_start_that_cannot_work_stops_with_one_plain_sentence(
    models: Path, flags: Sequence[str], env: dict[str, str], message: str
) -> None:
    result = jepa("serve", "--models", str(models), "--port", "0", *flags, **env)
    assert result.returncode == 1
    assert result.stderr.startswith("jepa serve: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_flag_is_as_unset_and_opens_no_door(models: Path) -> None:
    flags = [word for name in ("--host", "--root-path", "--default-model", "--allowed-hosts") for word in (name, "")]
    with Server("--models", str(models), "--workers", "1", *flags) as server:
        assert server.host == "127.0.0.1"
        assert "can use this service" not in server.log
    with pytest.raises(ValidationError, match="host"):
        Settings(host="")


def test_the_log_ends_with_where_it_is_ready_and_a_connection_is_taken_from_then_on(models: Path) -> None:
    empty = dict.fromkeys(("JEPA_GRPC_PORT", "JEPA_WORKERS", "JEPA_PORT", "PORT", "JEPA_LOG_LEVEL"), "")
    flags = ["serve", "--models", str(models), "--host", "::", "--port", "0", "--grpc-port", "0", "--watch-s", "0"]
    fork = Fork(PROGRAM, flags, os.environ | empty)
    lines: list[str] = []
    try:
        while "ready: " not in "".join(lines[-1:]):
            lines.append(fork.stderr.readline())
        (port,) = re.findall(r" ready: http://\[::\]:(\d+) shows what is served", lines[-1])
        # At once, though the workers have still to start.
        with socket.create_connection(("::1", int(port)), timeout=20) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        fork.send_signal(signal.SIGTERM)
        assert fork.stderr.read() == ""
        assert fork.wait(20) == 0
    finally:
        fork.kill()
        fork.stderr.close()
    assert re.search(rf" on http://\[::\]:{port}\n$", lines[0])
    assert re.search(r" gRPC on \[::\]:\d+\n$", lines[1])


def test_a_models_folder_that_is_one_too_deep_is_told_from_an_empty_one(models: Path, tmp_path: Path) -> None:
    def complaint(folder: Path) -> str:
        return jepa("serve", "--port", "0", "--models", str(folder)).stderr

    assert f"is one model; give the folder it lies in: --models {models}" in complaint(models / "tiny")
    assert f"is one bundle; give the folder two levels up: --models {models}" in complaint(models / "tiny" / "1")
    assert f"holds no model; learn one with: jepa train DATA --out {tmp_path}" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["v1", "0001", "1.0", "final"])
def test_a_version_of_another_name_is_named_with_what_versions_are_called(
    models: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(models / "tiny" / "1", tmp_path / "tiny" / name)
    for folder in (tmp_path, tmp_path / "tiny"):
        said = jepa("serve", "--port", "0", "--models", str(folder)).stderr
        assert f"{tmp_path / 'tiny' / name} is no version; versions are folders called 1, 2, …" in said


def test_a_port_that_is_taken_is_named_with_a_way_out(models: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = jepa("serve", "--models", str(models), "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} is taken by another process; choose another, such as --port {port + 1}" in result.stderr


def test_flags_beat_the_environment_also_in_worker_processes(models: Path) -> None:
    flags = ["--models", str(models), "--workers", "2", "--max-rows", "2", "--access-log"]
    with Server(*flags, env={"JEPA_MAX_ROWS": "1"}) as server:
        for rows, status in ((2, 200), (3, 413)):
            assert httpx.post(f"{server.url}/embed", json={"features": [[0] * 10] * rows}).status_code == status
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    # Each worker writes its own, once its answer has left.
    assert sorted(line["status"] for line in lines) == [200, 413]


def test_port_without_prefix_is_obeyed_as_platforms_set_it(models: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        result = jepa("serve", "--models", str(models), PORT=str(port))
    assert f"port {port} is taken" in result.stderr


def test_a_model_that_is_refused_at_the_start_is_logged_with_its_reason(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    TinyModel(version=2).write(tmp_path / "models")
    (tmp_path / "models" / "tiny" / "2" / "golden.npz").unlink()
    with Server("--models", str(tmp_path / "models")) as server:
        assert httpx.get(f"{server.url}/models").json()["models"][0]["version"] == 1
        assert "golden.npz is missing" in server.log

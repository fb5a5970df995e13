"""The image, the compose file and the pinned versions."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import PREFIX, Settings
from tests.support.serving import Server

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
TRAINING_ONLY = {"torch", "lightning-fabric", "pyarrow", "onnx", "onnxscript", "scikit-learn", "matplotlib"}


def pins():
    """Name → version for each line of constraints.txt that applies to this Python."""
    lines = map(Requirement, (ROOT / "constraints.txt").read_text().splitlines())
    meant = [line for line in lines if line.marker is None or line.marker.evaluate()]
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in meant}


def installed_for_serving():
    """Names of all packages that `pip install jepa-serve` installs on this platform, without extras."""
    found, left = set(), [Requirement(text) for text in PROJECT["dependencies"]]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        left += [Requirement(text) for text in requires(name) or []]
    return found


def healthcheck():
    return ast.literal_eval(re.search(r"^HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])


def test_serving_installs_neither_torch_nor_what_reads_training_data():
    assert not installed_for_serving() & TRAINING_ONLY


def test_the_client_needs_httpx_and_numpy_alone_and_is_as_old_as_the_service():
    assert {Requirement(text).name for text in CLIENT["dependencies"]} == {"httpx", "numpy"}
    assert [CLIENT[key] for key in ("version", "license")] == [PROJECT[key] for key in ("version", "license")]


def test_the_client_is_neither_in_the_distribution_of_the_service_nor_in_the_image():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    for name in ("client", "client.jepa_client"):
        assert not any(fnmatch(name, pattern) for pattern in settings["include"])
    assert "!client" not in (ROOT / ".dockerignore").read_text().split()
    assert not re.search(r"^COPY .*\bclient\b", DOCKERFILE, re.MULTILINE)


def test_make_serve_and_the_image_install_no_extras():
    if shutil.which("make"):
        recipe = subprocess.run(
            ["make", "--dry-run", "--always-make", "serve"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    else:
        recipe = re.search(r"^\.venv/serve:.*?\n\n", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[0]
    for commands in (recipe, DOCKERFILE):
        assert " install " in commands or "$(PIP)" in commands
        assert not re.search(r"\.\[|\btorch\b", commands)


def test_whatever_is_installed_is_pinned():
    named = chain(PROJECT["dependencies"], CLIENT["dependencies"], *PROJECT["optional-dependencies"].values())
    direct = {canonicalize_name(Requirement(text).name) for text in named} - {PROJECT["name"]}
    assert not (direct | installed_for_serving()) - pins().keys()


def test_pins_satisfy_the_ranges_of_the_project():
    for text in chain(PROJECT["dependencies"], CLIENT["dependencies"], *PROJECT["optional-dependencies"].values()):
        requirement = Requirement(text)
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), text


def test_constraints_name_no_host_and_no_local_version():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://|@|\+|^-", text, re.MULTILINE)


def hashed(name):
    """Each requirement of requirements/<name>.txt, with its hashes."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "").splitlines()
    for line in lines:
        if not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            yield Requirement(requirement), [each.strip() for each in hashes]


@pytest.mark.parametrize("name", ["serve", "build", "tools"])
def test_hashed_requirements_are_exact_and_name_no_host(name):
    assert [*hashed(name)]
    for requirement, hashes in hashed(name):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
    assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text()


def test_the_image_installs_what_serving_needs_at_the_versions_that_are_tested():
    """If this fails, run `make hashes`."""
    found = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each, _ in hashed("serve")}
    assert found == {name: pins()[name] for name in installed_for_serving()}


def test_what_builds_the_image_is_what_the_project_says_builds_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    found = {requirement.name: str(requirement.specifier)[2:] for requirement, _ in hashed("build")}
    assert (ROOT / "requirements" / "build.in").read_text().split() == settings["requires"]
    for requirement in map(Requirement, settings["requires"]):
        assert requirement.specifier.contains(found[requirement.name])


def test_the_image_installs_nothing_whose_hash_is_not_known():
    commands = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) [^\\\n]*", DOCKERFILE)
    assert len(commands) == 4
    for command in commands:
        assert "--require-hashes -r requirements/" in command or "--no-index --no-deps" in command, command


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE], ids=["Dockerfile", "docker-compose.yml"])
def test_every_variable_is_a_setting(text):
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"\bJEPA_[A-Z_]+\b", text)) <= known


def test_the_image_runs_without_privileges_and_without_a_shell():
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.search(r'^CMD \["jepa", "serve"\]$', final, re.MULTILINE)
    assert "RUN " not in final
    assert "JEPA_HOST=0.0.0.0" in final


def test_the_image_reports_nothing_to_the_makers_of_its_parts():
    assert re.search(r"^(ENV|   ) ORT_DISABLE_TELEMETRY=1 ", DOCKERFILE, re.MULTILINE)


def test_both_stages_of_the_image_have_the_same_python_which_the_project_supports():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    version = re.fullmatch(r"python:([\d.]+)-slim-bookworm", bases[0])[1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


def test_all_that_the_image_copies_passes_the_dockerignore():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in chain.from_iterable(line.split() for line in copied):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def test_the_health_check_tells_ready_from_gone():
    program, *arguments = healthcheck()
    assert program == "python"

    def run(port):
        return subprocess.run(
            [sys.executable, *arguments], env={"JEPA_PORT": str(port)}, capture_output=True, timeout=30, check=False
        ).returncode

    with Server() as server:
        port = server.port
        assert run(port) == 0
    assert run(port) != 0


def test_the_compose_file_takes_away_what_the_service_does_not_need():
    yaml = pytest.importorskip("yaml", reason="reading the compose file needs PyYAML")
    service = yaml.safe_load(COMPOSE)["services"]["jepa"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    source, target, mode = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", service["volumes"][0]).split(":")
    assert (ROOT / source / "melee").is_dir()
    assert (target, mode) == (service["environment"]["JEPA_MODELS"], "ro")
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["graceful_timeout_s"].default


def old_python(folder):
    """A Python that is too old or, where there is none, a program that says of itself that it is."""
    asked = "import sys; sys.exit(not (3, 6) <= sys.version_info < (3, 11))"
    for name in ("python3.10", "python3.9", "python3.8"):
        found = shutil.which(name)
        if found and not subprocess.run([found, "-c", asked], capture_output=True, check=False).returncode:
            return found
    program = folder / "python3.10"
    source = "import sys\nsys.version_info = (3, 10, 13)\nexec(sys.argv[2])"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{source}' \"$@\"\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("goal", ["serve", "test"])
def test_an_older_python_is_told_which_is_needed(tmp_path, goal):
    oldest = re.search(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    python = old_python(tmp_path)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "client").mkdir()
    shutil.copy(ROOT / "client" / "pyproject.toml", tmp_path / "client")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", f"PYTHON={python}", goal], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"jepa-serve needs Python {oldest} or newer, and " in done.stderr
    assert f"name another: make clean, then make PYTHON=python3.13 {goal}" in done.stderr
    assert not (tmp_path / ".venv").exists()

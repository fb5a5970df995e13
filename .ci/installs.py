"""Installs the service as users do, with each Python that is here, and asks it for an embedding: `make installs`.

Each way starts from a fresh clone of the last commit and an empty environment, without pins, as on a user's machine. It
ends with `jepa --version`, an answer of `jepa serve`, and a message of a command that lacks a package. After
`pip install` the client is installed by README's own line too, its lines are run, and the command that the message
names is tried as far as it goes without installing anything.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
FRAME = bytes(4 * 287)
EMBEDDING_BYTES = 4 * 256
BINARY = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


class Failed(Exception):
    """A step that a user would be stopped by."""


def run(*command: str | Path, at: Path, env: dict[str, str] | None = None, code: int = 0) -> str:
    done = subprocess.run([str(word) for word in command], cwd=at, env=env, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode != code:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return said


def interpreter(version: str) -> Path | None:
    """The program of this Python that works, on the PATH or of pyenv."""
    found = [which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")]
    for candidate in filter(None, found):
        asked = [str(candidate), "-c", "import venv"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return Path(candidate)
    return None


def by_pip(python: Path, clone: Path, home: Path, _: Path) -> Path:
    run(python, "-m", "venv", home, at=clone)
    run(home / "bin" / "pip", "install", "--quiet", ".", at=clone)
    return home / "bin"


def by_uv(python: Path, clone: Path, home: Path, uv: Path) -> Path:
    environment = os.environ | {"UV_TOOL_DIR": str(home / "tools"), "UV_TOOL_BIN_DIR": str(home / "bin")}
    run(uv, "tool", "install", "--quiet", "--python", python, ".", at=clone, env=environment)
    return home / "bin"


def by_pipx(python: Path, clone: Path, home: Path, uv: Path) -> Path:
    environment = os.environ | {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(home / "bin")}
    run(uv, "tool", "run", "pipx", "install", "--quiet", "--python", python, ".", at=clone, env=environment)
    return home / "bin"


WAYS: dict[str, Callable[[Path, Path, Path, Path], Path]] = {"pip": by_pip, "uv": by_uv, "pipx": by_pipx}


@contextmanager
def serving(jepa: Path, at: Path) -> Iterator[str]:
    """The URL of `jepa serve`, once its log names it."""
    command = [str(jepa), "serve", "--port", "0"]
    service = subprocess.Popen(command, cwd=at, stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    log = ""
    try:
        for line in service.stderr:
            log += line
            if found := re.search(r"on (http://[\d.]+:\d+)", line):
                # A full pipe would stop the service.
                threading.Thread(target=service.stderr.read).start()
                yield found[1]
                return
        raise Failed(f"jepa serve stopped:\n{log}")
    finally:
        service.terminate()
        service.wait()


def embedding(url: str) -> bytes:
    """Of a frame of zeros, once the service is ready."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(Request(f"{url}/embed", FRAME, BINARY), timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def check(folder: Path, at: Path) -> str:
    """What is left to install, by the message of a command that lacks it; raises Failed."""
    jepa = folder / "jepa"
    if not re.fullmatch(r"jepa-serve \d+\.\d+\.\d+\n", version := run(jepa, "--version", at=at)):
        raise Failed(f"jepa --version said {version!r}")
    with serving(jepa, at) as url:
        if len(answer := embedding(url)) != EMBEDDING_BYTES:
            raise Failed(f"an embedding had {len(answer)} bytes: {answer[:200]!r}")
        if (folder / "pip").exists():
            check_client(folder, at, url)
    said = run(jepa, "train", "frames.parquet", at=at, code=1)
    if not (found := re.search(r"needs \w+; install it with: (.*?)(?:, in the folder .*)?\n$", said)):
        raise Failed(f"jepa train without its packages said {said!r}")
    return found[1]


def check_client(folder: Path, at: Path, url: str) -> None:
    """Installs the client by README's line, and runs README's lines about it."""
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"`(JepaClient\(\)[^`]*\(frame\))`", readme)
    installs = re.findall(r"`pip (install '?\./client[^`]*)`", readme)
    if len(installs) != 1 or not lines:
        raise Failed("README does not say once how the client is installed, and how it asks")
    run("sh", "-c", f"'{folder / 'pip'}' {installs[0]} --quiet", at=at / "clone")
    program = "import numpy as np\nfrom jepa_client import JepaClient\nframe = np.zeros(287)\n"
    program += "".join(
        f"assert {line.replace('JepaClient()', f'JepaClient({url!r})')}.shape == (256,)\n" for line in lines
    )
    if not lines:
        raise Failed("README has no line that asks by the client")
    run(folder / "python", "-c", program, at=at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--by", nargs="+", choices=WAYS, default=[*WAYS])
    given = parser.parse_args()
    uv, failures, tried = Path(sys.executable).with_name("uv"), 0, 0
    for version in given.python:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not here", flush=True)
            continue
        for way in given.by:
            began, tried = time.monotonic(), tried + 1
            with tempfile.TemporaryDirectory() as folder:
                at = Path(folder)
                try:
                    run("git", "clone", "--quiet", ROOT, at / "clone", at=at)
                    command = check(WAYS[way](python, at / "clone", at / "home", uv), at)
                    if way == "pip":
                        run("sh", "-c", f"'{at}/home/bin/'{command} --quiet --dry-run", at=at / "clone")
                    outcome = f"works; more by `{command}`"
                except (Failed, OSError) as failure:
                    outcome, failures = f"FAILED: {failure}", failures + 1
            print(f"Python {version}, {way}: {outcome} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{tried - failures} passed, {failures} failed")
    sys.exit(failures > 0 or not tried)


if __name__ == "__main__":
    main()

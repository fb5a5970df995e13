"""Forks of a process that has imported what they need: that takes the service a second and training five, a fork
hardly any. What a fork starts by `sys.executable -m` is one too."""

import atexit
import gc
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

ROOT = Path(__file__).parents[2]
NUMBER = struct.Struct("i")
MAX_MESSAGE_BYTES = 1 << 20
# What forks share, by what they are for.
SERVICE = ("cli.serve", "app.main", "app.server.protocol", "app.server.watchdog", "app.server.workers")
# PyTorch's exporter imports onnxscript at its first use.
LEARNING = ("model.evaluation.probes", "model.export.bundle", "model.training.loop")
TRAINING = (*LEARNING, "cli.train", "onnxscript")
# In the process that forks: the packages that were there once each of these was imported.
LOADED: dict[str, set[str]] = {}


class Fork:
    """A `subprocess.Popen` of `python -c program *arguments`, as far as tests use one; its stderr is a pipe of text."""

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        imported: tuple[str, ...] = SERVICE,
        folder: Path = ROOT,
        stdout: int = 1,
    ) -> None:
        """`imported` are modules that forks of them share; tests that give the same share one process to fork from.
        It runs in `folder`, and `stdout` is a file descriptor."""
        errors, their_errors = os.pipe()
        self._status, their_status = os.pipe()
        message = json.dumps([program, ["-c", *arguments], dict(env), str(folder)]).encode()
        socket.send_fds(_forker(imported), [message], [their_errors, their_status, stdout])
        os.close(their_errors)
        os.close(their_status)
        self.stderr = open(errors)  # noqa: SIM115 (whoever made the fork closes it, as with Popen)
        self.pid = self._read()
        self.returncode: int | None = None

    def _read(self) -> int:
        number: int = NUMBER.unpack(os.read(self._status, NUMBER.size))[0]
        return number

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._status, select.POLLIN)
            if ready.poll(None if timeout is None else 1000 * timeout):
                self.returncode = self._read()
                os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_forked(
    program: str,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    imported: tuple[str, ...] = SERVICE,
    folder: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` of `python -c program *arguments` returns."""
    with TemporaryFile("w+") as stdout:
        fork = Fork(program, arguments, env, imported, folder, stdout.fileno())
        with fork.stderr:
            said = fork.stderr.read()
        code = fork.wait()
        stdout.seek(0)
        return subprocess.CompletedProcess([program, *arguments], code, stdout.read(), said)


@cache
def _forker(imported: tuple[str, ...]) -> socket.socket:
    """The way to the process that forks; it is started at the first call, and ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = f"from tests.support.forker import fork_on_demand; fork_on_demand({theirs.fileno()}, {imported})"
    forker = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
    )
    theirs.close()

    def end() -> None:
        ours.close()
        forker.wait()

    atexit.register(end)
    return ours


def fork_on_demand(channel: int, imported: tuple[str, ...]) -> None:
    """Runs in the process that forks. It returns there at the end, and in each fork once its program has run."""
    # As `app.server.run` does before it imports the service.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for name in imported:
        import_module(name)
        LOADED[name] = {module.partition(".")[0] for module in sys.modules}
    # A collection in a fork would write to every object that it shares with this process, and so copy all of them.
    gc.freeze()
    asked = socket.socket(fileno=channel)
    forks, python = _for_forks()
    # Ctrl-C is for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        if forks in select.select([asked, forks], [], [])[0]:
            with forks.accept()[0] as fork:
                message, (*fds,), _, _ = socket.recv_fds(fork, MAX_MESSAGE_BYTES, 3)
        else:
            message, (*fds,), _, _ = socket.recv_fds(asked, MAX_MESSAGE_BYTES, 3)
            if not message:
                shutil.rmtree(python.parent)
                with suppress(ChildProcessError):
                    while os.wait():
                        pass
                return
        if not os.fork():
            break
        for fd in fds:
            os.close(fd)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    asked.close()
    forks.close()
    errors, status, output = fds
    # The fork between waits for the program, as the one above has others to start.
    if pid := os.fork():
        os.close(errors)
        os.close(output)
        os.write(status, NUMBER.pack(pid))
        os.write(status, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for fd in fds:
        os.close(fd)
    program, sys.argv, env, folder = json.loads(message)
    os.chdir(folder)
    sys.executable = str(python)
    os.environ.clear()
    os.environ.update(env)
    exec(program, {"__name__": "__main__"})


def _for_forks() -> tuple[socket.socket, Path]:
    """A socket at which forks ask for forks, and the program by which they do so, in a folder of its own."""
    folder = Path(mkdtemp(prefix="forker"))
    forks = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    forks.bind(str(folder / "socket"))
    forks.listen()
    python = folder / "python"
    words = [sys.executable, "-IS", str(ROOT / "tests" / "support" / "forked_python.py"), str(folder / "socket")]
    python.write_text(f'#!/bin/sh\nexec {shlex.join([*words, sys.executable])} "$@"\n')
    python.chmod(0o755)
    return forks, python

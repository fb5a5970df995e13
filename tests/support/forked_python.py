"""A Python for programs that run in a fork: what they start by `python -m MODULE`, as `torchrun` does, is a fork too.

Its first arguments are the socket of the process that forks, and the Python that runs anything else. It imports no more
than it needs, as its start is what it saves.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any


def main(path: str, python: str, *arguments: str) -> None:
    # What is printed is of no use to anybody before its end, so -u may be left out.
    kind, *words = arguments[1:] if arguments[:1] == ("-u",) else arguments
    if kind != "-m":
        os.execv(python, [python, *arguments])
    program = f"import runpy; runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)"
    status, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as forker:
        forker.connect(path)
        message = json.dumps([program, ["-c", *words[1:]], dict(os.environ), os.getcwd()]).encode()
        socket.send_fds(forker, [message], [2, theirs, 1])
    os.close(theirs)
    pid = read(status)

    def pass_on(number: int, _: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    code = read(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def read(status: int) -> int:
    """As the process that forks writes a number."""
    return int.from_bytes(os.read(status, 4), sys.byteorder, signed=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

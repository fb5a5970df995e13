"""Forked processes, which share memory with the test as workers share it with each other."""

import os
from collections.abc import Callable


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked process, and asserts that it succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

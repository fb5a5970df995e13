"""Which files a process has open, and how many it may have; each connection is one."""

import os
import sys

STANDARD = (0, 1, 2)


def hold_standard_files() -> None:
    """Opens those of standard input, output and error that the process was started without, to nothing. Otherwise the
    next connection would get the number of one of them, and its client what is written to the log."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)


def allow_files(wanted: int) -> None:
    """Raises the limit as far as this process may; the usual one is about a thousand."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def allowed_files() -> int:
    """The limit as it is."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft

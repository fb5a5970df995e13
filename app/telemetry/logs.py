"""Logging: each record is one line on standard error, as text or JSON, with the id of the request it is about.

Logging must not block the event loop. A pipe whose reader has stopped fills up, and a write to it would then block
every request. The handler therefore polls for room before each write. It grants a slow reader a short wait, drops the
line if that is not enough, and does not wait again until the reader has caught up. Dropped lines are counted in
`jepa_log_lines_lost_total`.
"""

import json
import logging
import os
import select
from datetime import UTC, datetime
from typing import Any

import orjson

from app.system.counters import Cell
from app.telemetry.request_context import RequestContext, current_request

STDERR = 2
# How long a write may wait for a slow reader of the log to make room in the pipe.
MAX_WAIT_MS = 50
# Of a path or another text of a client's, in a line of the log.
MAX_TEXT_CHARS = 500
# As text, all that ends a line, moves the cursor or turns the direction of writing. A client may put it into a path or
# a name, and would so write lines of its own.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
# Of a traceback, which has lines.
CONTROLS_IN_LINES = {code: escape for code, escape in CONTROLS.items() if chr(code) not in "\n\t"}
access_log = logging.getLogger("app.access")


class Lines(logging.Handler):
    """Writes lines to standard error; one that finds no room in the pipe or on the disk is dropped and counted."""

    def __init__(self, lost: Cell) -> None:
        super().__init__()
        self._lost = lost
        self._wait_ms = MAX_WAIT_MS

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        try:
            if not self._has_room():
                raise BlockingIOError
            # In a single write, so that the lines of several processes do not interleave.
            os.write(STDERR, line)
        except OSError:
            self._lost.add()

    def _has_room(self) -> bool:
        """Whether a pipe has room for a line of normal length. Files always have room."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(STDERR, select.POLLOUT)
        has_room = bool(poll.poll(self._wait_ms))
        self._wait_ms = MAX_WAIT_MS if has_room else 0
        return has_room


def _context(record: logging.LogRecord) -> RequestContext | None:
    """The context passed in `extra`, as batch threads do, or that of the current request."""
    return getattr(record, "context", None) or current_request.get()


class Text(logging.Formatter):
    """Lines for people, with the request's id at the end of the first. Further lines, of a traceback or of what the
    record has as `below`, are indented: all that begins at the margin was written by the service."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        context = _context(record)
        line = super().formatMessage(record).translate(CONTROLS)
        return line + ("" if context is None else f" [request {context.request_id.decode()}]")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record) + (f"\n{below}" if (below := getattr(record, "below", "")) else "")
        return text.translate(CONTROLS_IN_LINES).replace("\n", "\n    ")


class Json(logging.Formatter):
    """One JSON object per line: `time` in UTC, `level`, `logger`, `message`, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        context = _context(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context is not None:
            line["request_id"] = context.request_id.decode()
            if context.trace is not None:
                line["trace_id"] = context.trace.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if below := getattr(record, "below", ""):
            line["below"] = below
        try:
            return orjson.dumps(line).decode()
        except TypeError:
            # orjson refuses lone surrogates, which a file's name may hold.
            return json.dumps(line)


def config(style: str, level: str, with_access: bool, lost: Cell) -> dict[str, Any]:
    """The argument of `logging.config.dictConfig`; the access log is JSON in either style."""
    logging.captureWarnings(True)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"text": {"()": Text}, "json": {"()": Json}},
        "handlers": {
            "lines": {"()": Lines, "lost": lost, "formatter": style},
            "access": {"()": Lines, "lost": lost, "formatter": "json"},
        },
        "loggers": {
            access_log.name: {
                "handlers": ["access"],
                "level": "INFO" if with_access else "WARNING",
                "propagate": False,
            },
            "uvicorn": {"level": "WARNING"},
            "websockets": {"level": "WARNING"},
        },
        "root": {"handlers": ["lines"], "level": level.upper()},
    }

"""What is logged: a line a record on standard error, for people or as JSON, with the id of the request it is about."""

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
BURST_MS = 50  # that a reader of the log may take to make room
access_log = logging.getLogger("app.access")


class Lines(logging.Handler):
    """Never waits for a reader that has stopped: what finds no room, or a full disk, is lost, and counted."""

    def __init__(self, lost: Cell) -> None:
        super().__init__()
        self._lost = lost
        self._waits_ms = BURST_MS

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        try:
            if not self._has_room():
                raise BlockingIOError
            os.write(STDERR, line)  # at once, so that lines of several processes do not mix
        except OSError:
            self._lost.add()

    def _has_room(self) -> bool:
        """In a pipe, for a line of the usual length."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(STDERR, select.POLLOUT)
        has_room = bool(poll.poll(self._waits_ms))
        self._waits_ms = BURST_MS if has_room else 0
        return has_room


def _context(record: logging.LogRecord) -> RequestContext | None:
    """The one of `extra`, as a batch thread has it, or whose request is at hand."""
    return getattr(record, "context", None) or current_request.get()


class Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        context = _context(record)
        return super().formatMessage(record) + ("" if context is None else f" [request {context.request_id.decode()}]")


class Json(logging.Formatter):
    """An object a line: `time` in UTC, `level`, `logger`, `message`, and what else is known."""

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
        try:
            return orjson.dumps(line).decode()
        except TypeError:  # half of a surrogate pair, such as in a file's name
            return json.dumps(line)


def config(style: str, level: str, with_access: bool, lost: Cell) -> dict[str, Any]:
    """For `logging.config.dictConfig`; the access log is JSON in either style."""
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

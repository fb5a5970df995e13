"""Every error that the service answers with.

    ServiceError
    ├── MalformedBody         400  the body is not what its content type says
    ├── ModelRefused          400  the bundle to be loaded fails its checks
    ├── Unauthorized          401  no key, or a wrong one
    ├── ModelControlOff       403  model control over the API is switched off
    ├── ForeignOrigin         403  a web page of another origin may not change anything, or open a stream
    ├── UnknownModel          404
    ├── NoSample              404  the model's bundle has no frames to look at
    ├── TooSlow               408  the request did not arrive in time
    ├── SchemaMismatch        409  the client was built for another feature schema
    ├── Superseded            409  a newer frame of the same stream replaced this one
    ├── BodyTooLarge          413
    ├── TooManyRows           413
    ├── UnsupportedMediaType  415
    ├── UnknownHost           421  the service is not known under the name that was asked
    ├── InvalidInput          422  a field is wrong; the error says which one
    ├── UpgradeRequired       426  the endpoint is a WebSocket
    ├── QueueFull             429
    ├── HeadTooLarge          431
    ├── ModelFailed           500
    ├── ServiceFailed         500  a bug in the service; its log has the reason
    ├── NotReady              503  starting, or without a model
    │   └── Draining          503
    ├── BuffersFull           503  bodies on their way take as much memory as they may
    ├── TooManyConnections    503
    └── DeadlineExpired       504

    ClientLeft                     the client is gone, so there is nobody to answer

Raise them anywhere: `app.api.guard` counts them, and each dialect renders them in its own format.
"""

import difflib
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

# Longer names are cut in messages, and nothing similar is looked for.
MAX_NAME_CHARS = 64

Loc = tuple[str | int, ...]


class ServiceError(Exception):
    """An error with a status, a stable `slug` for programs, a `title` for people, and the `detail` of this case."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def members(self) -> dict[str, Any]:
        """Extension members of the problem document."""
        return {}


class MalformedBody(ServiceError):
    status, slug, title = 400, "malformed-body", "The body cannot be read"


class Unauthorized(ServiceError):
    status, slug, title = 401, "unauthorized", "A key is needed"


class ModelRefused(ServiceError):
    status, slug, title = 400, "model-refused", "The bundle fails its checks"


class ModelControlOff(ServiceError):
    status, slug, title = 403, "model-control-off", "Models are not changed over HTTP here"


class ForeignOrigin(ServiceError):
    status, slug, title = 403, "foreign-origin", "A page of another origin asks"


class UnknownModel(ServiceError):
    status, slug, title = 404, "unknown-model", "No such model"


class NoSample(ServiceError):
    status, slug, title = 404, "no-sample", "The model has no sample"


class SchemaMismatch(ServiceError):
    status, slug, title = 409, "schema-mismatch", "The model reads another feature schema"


class Superseded(ServiceError):
    status, slug, title = 409, "superseded", "A newer frame of this stream arrived"


class TooSlow(ServiceError):
    status, slug, title = 408, "too-slow", "The request took too long to arrive"


class BodyTooLarge(ServiceError):
    status, slug, title = 413, "body-too-large", "The body is too large"


class TooManyRows(ServiceError):
    status, slug, title = 413, "too-many-rows", "Too many rows in one request"


class UnsupportedMediaType(ServiceError):
    status, slug, title = 415, "unsupported-media-type", "This content type is not understood"


class UnknownHost(ServiceError):
    status, slug, title = 421, "unknown-host", "The service has another name"


class InvalidInput(ServiceError):
    """One or more fields are wrong: each of `errors` is a path into the request and how to fix what is there."""

    status, slug, title = 422, "invalid-input", "The request has a field that is wrong"

    def __init__(self, *errors: tuple[Loc, str], located: bool = False) -> None:
        super().__init__("; ".join(msg for _, msg in errors))
        self.errors = errors
        self._located = located

    def within(self, source: str) -> "InvalidInput":
        """The same errors with `source` ("body", "query" or "header") before each path; unchanged if they have one."""
        if self._located:
            return self
        return InvalidInput(*(((source, *loc), msg) for loc, msg in self.errors), located=True)

    def members(self) -> dict[str, Any]:
        return {"errors": [{"loc": loc, "msg": msg} for loc, msg in self.errors]}


class UpgradeRequired(ServiceError):
    status, slug, title = 426, "upgrade-required", "This is a WebSocket"


class QueueFull(ServiceError):
    status, slug, title = 429, "queue-full", "The queue is full"

    def __init__(self, queue_rows: int, reason: str) -> None:
        super().__init__(f"{queue_rows} rows wait already and {reason}; send this again later")
        self.queue_rows, self.reason = queue_rows, reason

    def members(self) -> dict[str, Any]:
        return {"queue_rows": self.queue_rows}


class HeadTooLarge(ServiceError):
    status, slug, title = 431, "head-too-large", "The request's head is too large"


class ModelFailed(ServiceError):
    status, slug, title = 500, "model-failed", "The model could not compute this"


class ServiceFailed(ServiceError):
    status, slug, title = 500, "service-failed", "The service failed"


class NotReady(ServiceError):
    status, slug, title = 503, "not-ready", "The service is not ready"


def no_memory() -> NotReady:
    """What a MemoryError is answered with."""
    return NotReady("no memory is left for this request; send fewer rows at once, or send it again later")


class Draining(NotReady): ...


class TooManyConnections(ServiceError):
    status, slug, title = 503, "too-many-connections", "The service has as many connections as it takes"


class BuffersFull(ServiceError):
    status, slug, title = 503, "buffers-full", "The service holds as many bytes as it may"


class DeadlineExpired(ServiceError):
    status, slug, title = 504, "deadline-expired", "The request's deadline passed"


class ClientLeft(Exception):
    """The client is gone, so there is nobody to answer."""


def cut(name: str) -> str:
    """A name that a client sent, short enough for a message."""
    return name if len(name) <= MAX_NAME_CHARS else f"{name[: MAX_NAME_CHARS - 1]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A hint such as `did you mean 'own'? `; empty if nothing is similar, or if the name is too long for a search that
    takes the square of its length."""
    nearest = difflib.get_close_matches(name, known, n=1) if len(name) <= MAX_NAME_CHARS else []
    return f"did you mean '{nearest[0]}'? " if nearest else ""


def listed(names: Sequence[str]) -> str:
    """Names as a message lists them: `'own', 'opponent', 'stage'`."""
    return ", ".join(f"'{name}'" for name in names)

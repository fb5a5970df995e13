"""The errors that a call can raise.

    JepaError                      status, type, title, detail, errors: the members of the problem document
    ├── MalformedBody         400
    ├── Unauthorized          401  no key, or a wrong one: api_key=
    ├── ForeignOrigin         403  a web page from another origin
    ├── UnknownModel          404
    ├── NoSample              404  the model has none to look at
    ├── TooSlow               408  the request took too long to arrive
    ├── SchemaMismatch        409  the model reads another row layout
    ├── Superseded            409  a newer frame of the stream took this one's place
    ├── BodyTooLarge          413
    ├── TooManyRows           413
    ├── UnsupportedMediaType  415
    ├── UnknownHost           421  the service has another name: JEPA_ALLOWED_HOSTS
    ├── InvalidInput          422  `errors` names the fields
    ├── UpgradeRequired       426  a proxy in between does not forward WebSockets
    ├── QueueFull             429  skip the frame, or retry in `retry_after` seconds
    ├── HeadTooLarge          431
    ├── ModelFailed           500
    ├── NotReady              503  starting, draining, or no model
    ├── TooManyConnections    503
    ├── BuffersFull           503  bodies under way take all the memory that there is for them
    ├── DeadlineExpired       504  reported by the service, or raised here when no answer came in time
    ├── ServiceUnreachable         no answer from that address
    └── UnexpectedAnswer           an answer, but not from jepa-serve

Arguments that are wrong before anything is sent raise ValueError or TypeError.
"""

import re
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

from jepa_client.answers import Answer, shown

URN = "urn:jepa:error:"


class FieldError(NamedTuple):
    """Where in the request the error is, such as ("body", "features", 0, 113), and how to fix it."""

    loc: tuple[str | int, ...]
    msg: str


class JepaError(Exception):
    """`status` is None if no answer came; `retry_after` is in seconds, if the service gave a time."""

    slug: ClassVar[str] = ""
    # The status that means this error even without a problem document, as from a proxy.
    code: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        type: str = "about:blank",
        title: str = "",
        errors: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.type = type
        self.title = title
        self.errors = errors
        self.retry_after = retry_after


class MalformedBody(JepaError):
    slug = "malformed-body"


class Unauthorized(JepaError):
    slug, code = "unauthorized", 401


class ForeignOrigin(JepaError):
    slug = "foreign-origin"


class UnknownModel(JepaError):
    slug = "unknown-model"


class NoSample(JepaError):
    slug = "no-sample"


class TooSlow(JepaError):
    slug = "too-slow"


class SchemaMismatch(JepaError):
    slug = "schema-mismatch"


class Superseded(JepaError):
    slug = "superseded"


class BodyTooLarge(JepaError):
    slug, code = "body-too-large", 413


class TooManyRows(JepaError):
    slug = "too-many-rows"


class UnsupportedMediaType(JepaError):
    slug = "unsupported-media-type"


class UnknownHost(JepaError):
    slug = "unknown-host"


class InvalidInput(JepaError):
    slug = "invalid-input"

    @classmethod
    def noticed(cls, detail: str) -> "InvalidInput":
        """The error for rows that are not sent, since the service would refuse them or take them for others."""
        found = FieldError(("body", "features"), detail)
        return cls(
            detail, status=422, type=URN + cls.slug, title="The request has a field that is wrong", errors=(found,)
        )


class UpgradeRequired(JepaError):
    slug, code = "upgrade-required", 426


class QueueFull(JepaError):
    slug, code = "queue-full", 429


class HeadTooLarge(JepaError):
    slug = "head-too-large"


class ModelFailed(JepaError):
    slug = "model-failed"


class NotReady(JepaError):
    slug, code = "not-ready", 503


class TooManyConnections(JepaError):
    slug = "too-many-connections"


class BuffersFull(JepaError):
    slug = "buffers-full"


class DeadlineExpired(JepaError):
    slug, code = "deadline-expired", 504

    @classmethod
    def noticed(cls, who: str, timeout_s: float) -> "DeadlineExpired":
        """The error for a deadline that passed on the client's side, without an answer from `who`."""
        detail = f"{who} did not answer within {timeout_s * 1000:g} ms"
        return cls(detail, status=cls.code, type=URN + cls.slug, title="The request's deadline passed")


class ServiceUnreachable(JepaError):
    """No connection could be made, or it broke; `detail` has the URL."""


class UnexpectedAnswer(JepaError):
    """The response is neither one of jepa-serve's nor a problem document."""


BY_SLUG = {cls.slug: cls for cls in JepaError.__subclasses__() if cls.slug}
BY_CODE = {cls.code: cls for cls in JepaError.__subclasses__() if cls.code}


def refusal(answer: Answer) -> JepaError:
    """The error that a failed response describes, whether the service's problem document or a proxy's page."""
    document = answer.document() or {}
    type_ = str(document.get("type", "about:blank"))
    kind = BY_SLUG.get(type_.removeprefix(URN)) or BY_CODE.get(answer.status)
    return (kind or (JepaError if document else UnexpectedAnswer))(
        str(document.get("detail") or f"{answer.url} answered {answer.status}: {answer.excerpt()}"),
        status=answer.status,
        type=type_,
        title=str(document.get("title") or _phrase(answer.status)),
        errors=_field_errors(document.get("errors")),
        retry_after=_seconds(answer.headers.get("retry-after", "")),
    )


def told(failure: BaseException) -> str:
    """Why nothing could be sent or read, for a message."""
    # It may quote a proxy's address with its password, and an answer that is none.
    reason = shown(re.sub(r"//[^/@\s]*@", "//", str(failure))) or type(failure).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        reason += "; name the authority that signed the service's certificate: JepaClient(…, ca_file='ca.pem')"
    return reason


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _field_errors(errors: Any) -> tuple[FieldError, ...]:
    given = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return tuple(FieldError(_place(each.get("loc")), str(each.get("msg", ""))) for each in given)


def _place(loc: Any) -> tuple[str | int, ...]:
    return tuple(part for part in loc if isinstance(part, str | int)) if isinstance(loc, list) else ()


def _seconds(text: str) -> float | None:
    """The seconds in `Retry-After`; a date is ignored, since clocks differ by more than the wait."""
    return float(text) if text.isascii() and text.isdecimal() else None

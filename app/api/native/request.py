"""Parses one request of the native dialect, and builds its answer in the format that the client asked for.

Most requests are JSON with rows and no options. Pydantic would come to the same result for each of them, so
`_no_options` validates once for each set of row fields and caches the options, which are frozen. Rows never go through
pydantic: they stay plain lists until `NativeRequest.rows` converts them to arrays.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from app.api.answer import Answer
from app.api.body import PLAIN, coding_of
from app.api.headers import BINARY, JSON, RawHeaders, read_stream, read_timeout, timing_lines
from app.api.native.schemas import ROWS, InputQuery, InputRows, Options
from app.api.validation import check_schema, checked
from app.errors import InvalidInput, UnsupportedMediaType
from app.inference.actions import FIELD
from app.inference.jobs import ANY_TIME, Ticket, Timing
from app.repository.registry import ServedModel
from app.rows import (
    Array,
    Fields,
    binary_rows,
    check_alike,
    float32_bytes,
    json_bytes,
    json_rows,
    may_hold_booleans,
    parse_json,
)
from app.service import Service

# Options that say how a binary body is to be read.
OF_BINARY = frozenset(("actions", "candidates"))
LISTS = frozenset(("hidden", "targets", "heads"))
# Of a row's width; no row that fits into memory has more numbers.
MAX_WIDTH_DIGITS = 12

Q = TypeVar("Q", bound=Options)
B = TypeVar("B", bound=Options)
Opts = TypeVar("Opts", bound=Options, covariant=True)


@dataclass(slots=True)
class NativeRequest(Generic[Opts]):
    """A parsed request: its options, and a body (JSON: `document`) whose rows `rows` returns, once."""

    options: Opts
    body: bytes
    document: dict[str, Any] | None
    model: ServedModel
    ticket: Ticket
    max_rows: int
    answers_binary: bool
    single_row: bool = False

    def rows(self, fields: Fields) -> list[Array]:
        """The rows of each field, [B, D], with the same B for all; raises InvalidInput. A second call would fail."""
        try:
            if self.document is None:
                return binary_rows(self.body, fields, self.max_rows)
            booleans = may_hold_booleans(self.body)
            found = {}
            for layout in fields.layouts:
                # Removed from the document, because a list of floats takes ten times the memory of an array, and the
                # document lives as long as the request is queued.
                value = self.document.pop(layout.field)
                found[layout.field], self.single_row = json_rows(value, layout, self.max_rows, booleans=booleans)
            if len(found) > 1:
                check_alike(found)
            return [*found.values()]
        except InvalidInput as error:
            raise error.within("body") from None

    def rows_and_actions(self, fields: Fields, options: InputQuery | InputRows) -> tuple[Array, Array | None]:
        """The rows of the one field, [B, D], and the inputs beside them: None, [B, n, A] or, for one row, [N, n, A]."""
        if options.actions is None:
            (rows,) = self.rows(fields)
            return rows, None
        (layout,), taken = fields.layouts, self.model.engine.actions
        try:
            if isinstance(options, InputQuery):
                rows, sent = taken.binary_rows(self.body, layout, options.actions, options.candidates, self.max_rows)
            else:
                assert self.document is not None
                value, (rows,) = self.document.pop(FIELD), self.rows(fields)
                sent = taken.json_actions(value, len(rows), self.max_rows, booleans=may_hold_booleans(self.body))
            self.single_row = self.single_row and not sent.are_candidates
            return rows, taken.checked(sent.actions)
        except InvalidInput as error:
            raise error.within("body") from None

    def ranked(self, rows: Array) -> Array:
        """[B, D], or [D] if the request had a single row that was not in a list."""
        return rows[0] if self.single_row else rows

    def answer(self, rows: Array, timing: Timing, **document: Any) -> Answer:
        """A 200 answer: `document` with the model's name and version as JSON, or `rows` as raw float32."""
        if self.answers_binary:
            content_type, body = BINARY, float32_bytes(rows)
        else:
            manifest = self.model.bundle.manifest
            document |= {"model": manifest.name, "version": manifest.version}
            content_type, body = JSON, json_bytes(document)
        about = content_type, len(body), timing_lines(timing)
        return Answer(200, b"content-type: %s\r\ncontent-length: %d\r\n%s" % about, body)


@dataclass(slots=True)
class ParsedHead(Generic[Q]):
    """What the headers and the query string of a request say."""

    # JSON, BINARY, or empty if the client sent no content type.
    media_type: bytes
    # The options in the query string; None if there is none beside JSON.
    options: Q | None
    answers_binary: bool
    schema_hash: str | None
    stream: str | None
    timeout_s: float | None
    # How many numbers each row of a binary body has, as far as the client knows.
    row_width: int | None

    def ticket(self, arrived: float) -> Ticket:
        """The deadline and the stream of a request that arrived at `arrived` (`time.monotonic`)."""
        if self.timeout_s is None and self.stream is None:
            return ANY_TIME
        return Ticket(None if self.timeout_s is None else arrived + self.timeout_s, self.stream)


def read_head(headers: RawHeaders, query_string: bytes, query: type[Q]) -> ParsedHead[Q]:
    """Raises UnsupportedMediaType or InvalidInput; `query` validates the query string."""
    media_type = _media_type(headers)
    options = _query_options(query, query_string) if query_string or media_type == BINARY else None
    schema_hash = headers.get(b"x-schema-hash")
    return ParsedHead(
        media_type,
        options,
        _preferred(headers.get(b"accept", b"")) == BINARY,
        None if schema_hash is None else schema_hash.decode("latin-1"),
        read_stream(headers),
        read_timeout(headers),
        _row_width(headers),
    )


def read_request(
    service: Service, head: ParsedHead[Q], content: bytes, body: type[B], arrived: float, parsed: Any = None
) -> NativeRequest[Q | B]:
    """The parsed request; `body` validates the options beside JSON, those of a binary body are in `head`. `parsed` is
    the document in a JSON body that was too large to be parsed here."""
    options: Q | B
    if is_json(head, content):
        options, document = _read_document(content if parsed is None else parsed, body, head.options)
    else:
        assert head.options is not None
        options, document = head.options, None
    try:
        model = service.registry.get(options.model)
    except InvalidInput as error:
        raise error.within("query" if document is None else "body") from None
    if options.schema_hash is not None or head.schema_hash is not None:
        check_schema(model, {options.schema_hash, head.schema_hash})
    if head.row_width is not None and document is None:
        check_width(binary_fields(model, options), head.row_width)
    ticket, max_rows = head.ticket(arrived), service.settings.max_rows
    return NativeRequest(options, content, document, model, ticket, max_rows, head.answers_binary)


def binary_fields(model: ServedModel, options: Options | None) -> Fields:
    """What rows of a binary body are, by the option `input`."""
    return model.forms.context if getattr(options, "input", "features") == "context" else model.forms.features


def check_width(fields: Fields, said: int) -> None:
    """Raises InvalidInput unless rows are as wide as a client says: bytes have no shape, so those of one row of twice
    the width would pass for two rows."""
    layout = fields.layouts[0]
    if said != layout.width:
        raise layout.wrong_width((layout.field,), said).within("body")


def is_json(head: ParsedHead[Any], content: bytes) -> bool:
    """Whether the body is JSON, and not binary; raises UnsupportedMediaType if it is neither."""
    if head.media_type == BINARY:
        return False
    if not head.media_type and not content.lstrip().startswith((b"{", b"[")):
        raise _unsupported()
    return True


def _read_document(content: bytes | Any, body: type[B], query: Options | None) -> tuple[B, dict[str, Any]]:
    """The validated options, and the whole JSON document with the rows in it; `content` may be parsed already."""
    document = parse_json(content) if isinstance(content, bytes) else content
    if not isinstance(document, dict):
        raise InvalidInput(((), 'the body must be a JSON object such as {"features": [[…]]}')).within("body")
    rows_given = tuple([name for name in ROWS if document.get(name) is not None])
    if query is not None:
        document |= _beside(document, query, body)
    if len(rows_given) == len(document):
        return _no_options(body, rows_given), document
    return checked(body, document | dict.fromkeys(rows_given, True), "body", strict=True), document


def _beside(document: dict[str, Any], query: Options, body: type[Options]) -> dict[str, Any]:
    """The options in the query string beside a JSON document, which count like those in it; raises InvalidInput for one
    that the two say differently."""
    said = query.model_dump(exclude_unset=True)
    for name, value in said.items():
        if name in OF_BINARY:
            detail = f"{name} counts what follows a row in a binary body; a JSON body holds the inputs as actions"
            raise InvalidInput(((name,), detail)).within("query")
        # A binary body's rows are of the kind that `input` says, a document's of the field's that holds them.
        in_body = document.get(name) if name in body.model_fields else value if document.get(value) is not None else ()
        in_body = [] if name in LISTS and in_body == {} else in_body
        if in_body is not None and in_body != value:
            detail = f"{name} in the query string says something else than the body; give it once"
            raise InvalidInput(((name,), detail)).within("query")
    return {name: value for name, value in said.items() if name in body.model_fields}


def _media_type(headers: RawHeaders) -> bytes:
    if coding_of(headers) not in PLAIN:
        raise UnsupportedMediaType("the body is compressed; send it as it is")
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type in (BINARY, JSON, b""):
        return media_type
    if media_type.endswith(b"+json"):
        return JSON
    raise _unsupported()


def _row_width(headers: RawHeaders) -> int | None:
    text = headers.get(b"x-row-width")
    if text is None:
        return None
    if not (text.isdigit() and len(text) <= MAX_WIDTH_DIGITS):
        detail = "X-Row-Width must be how many numbers a row has, such as 287"
        raise InvalidInput((("X-Row-Width",), detail)).within("header")
    return int(text)


def _unsupported() -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"send 'Content-Type: {JSON.decode()}', or '{BINARY.decode()}' for little-endian float32 rows"
    )


def _preferred(accept: bytes) -> bytes:
    """BINARY or JSON, whichever the client names first; JSON when it names neither."""
    for media_range in accept.split(b","):
        media_type = media_range.partition(b";")[0].strip().lower()
        if media_type in (BINARY, JSON):
            return media_type
    return JSON


def _query_options(options: type[Q], query: bytes) -> Q:
    values: dict[str, Any] = {}
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in LISTS:
            values.setdefault(name, []).extend(part.strip() for part in text.split(",") if part.strip())
        elif name in values:
            raise InvalidInput(((name,), f"{name} is given twice; give it once")).within("query")
        else:
            values[name] = text
    return checked(options, values, "query", strict=False)


@lru_cache(maxsize=64)
def _no_options(options: type[Q], rows_given: tuple[str, ...]) -> Q:
    """The options of a body that holds nothing but these row fields, validated once and then cached."""
    return checked(options, dict.fromkeys(rows_given, True), "body", strict=True)

"""One request of the native dialect: options and rows are read from it, and the answer takes the form it asks for."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request
from starlette.responses import Response

from app import wire
from app.batcher import Ticket, Timing
from app.errors import InvalidInput, Loc, SchemaMismatch, UnsupportedMediaType, listed
from app.pace import Array
from app.registry import ServedModel
from app.routes.reading import located_in, read_body, read_ticket, service_of
from app.schemas import Options

BINARY = "application/octet-stream"
JSON = "application/json"
LISTS = frozenset(("hidden", "targets"))

Q = TypeVar("Q", bound=Options)
B = TypeVar("B", bound=Options)
Opts = TypeVar("Opts", bound=Options, covariant=True)


@dataclass(frozen=True)
class Exchange(Generic[Opts]):
    """`options` hold the rows too where the body was JSON; a binary body is `body`."""

    options: Opts
    body: bytes | None
    model: ServedModel
    ticket: Ticket
    max_rows: int
    answers_binary: bool

    @property
    def options_source(self) -> str:
        return "body" if self.body is None else "query"

    def features(self, field: str = "features", *, can_hide: bool = False) -> wire.Layout:
        manifest = self.model.bundle.manifest
        return wire.Layout(field, manifest.input_dim, manifest.name, manifest.feature_schema.names, can_hide)

    def embeddings(self, field: str) -> wire.Layout:
        manifest = self.model.bundle.manifest
        return wire.Layout(field, manifest.embed_dim, manifest.name)

    def rows(self, *layouts: wire.Layout) -> list[Array]:
        """The rows of each field, alike in number: [B, D], or [D] where the JSON had a single row."""
        with located_in("body"):
            if self.body is not None:
                return wire.binary_rows(self.body, layouts, self.max_rows)
            fields = [wire.json_rows(getattr(self.options, each.field), each, self.max_rows) for each in layouts]
            counts = [len(np.atleast_2d(rows)) for rows in fields]
            if len(set(counts)) > 1:
                both = " and ".join(
                    f"{each.field} has {count} rows" for each, count in zip(layouts, counts, strict=True)
                )
                raise InvalidInput(((layouts[-1].field,), f"{both}; send as many of one as of the other"))
            return fields

    def answer(self, rows: Array, timing: Timing, **document: Any) -> Response:
        """The `document` with the model's name, or `rows` as bare float32."""
        manifest = self.model.bundle.manifest
        headers = {}
        if timing.batch_rows:
            queue_ms, infer_ms = timing.queue_s * 1e3, timing.infer_s * 1e3
            headers["Server-Timing"] = f"queue;dur={queue_ms:.3f}, infer;dur={infer_ms:.3f}"
            headers["X-Batch-Rows"] = str(timing.batch_rows)
        if self.answers_binary:
            return Response(wire.float32_bytes(rows), headers=headers, media_type=BINARY)
        document |= {"model": manifest.name, "version": manifest.version}
        return Response(wire.json_bytes(document), headers=headers, media_type=JSON)


async def receive(request: Request, query: type[Q], body: type[B]) -> Exchange[Q | B]:
    """Options are those of `query` beside a binary body; a JSON body holds them itself, as `body` has them."""
    service = service_of(request)
    service.admit()
    ticket = read_ticket(request)
    media_type = _media_type(request)
    content = await read_body(request, service.settings.max_body_bytes)
    binary = media_type == BINARY or (not media_type and not content.lstrip().startswith((b"{", b"[")))
    if binary and not media_type:
        raise _unsupported()
    options: Q | B
    if binary:
        options = _checked(query, _query_values(request), "query", strict=False)
    else:
        _refuse_query(request)
        document = wire.parse_json(content)
        if not isinstance(document, dict):
            raise InvalidInput((("body",), 'the body must be a JSON object such as {"features": [[…]]}'))
        options = _checked(body, document, "body", strict=True)
    with located_in("query" if binary else "body"):
        model = service.registry.get(options.model)
    _check_schema(model, options.schema_hash, request.headers.get("x-schema-hash"))
    return Exchange(
        options,
        content if binary else None,
        model,
        ticket,
        service.settings.max_rows,
        _prefers_binary(request.headers.get("accept", "")),
    )


def _media_type(request: Request) -> str:
    """JSON, BINARY, or nothing where the client did not say."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("the body is compressed; send it as it is")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("", JSON, BINARY):
        return media_type
    if media_type.endswith("+json"):
        return JSON
    raise _unsupported()


def _unsupported() -> UnsupportedMediaType:
    return UnsupportedMediaType(f"send 'Content-Type: {JSON}', or '{BINARY}' for little-endian float32 rows")


def _prefers_binary(accept: str) -> bool:
    """Whichever of the two the client names first; JSON when it names neither."""
    for media_range in accept.split(","):
        media_type = media_range.partition(";")[0].strip().lower()
        if media_type in (BINARY, JSON):
            return media_type == BINARY
    return False


def _query_values(request: Request) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in LISTS:
            values.setdefault(name, []).extend(part.strip() for part in text.split(",") if part.strip())
        elif name in values:
            raise InvalidInput((("query", name), f"{name} is given twice; give it once"))
        else:
            values[name] = text
    return values


def _refuse_query(request: Request) -> None:
    if name := next(iter(request.query_params), None):
        raise InvalidInput(
            (("query", name), f"{name} does not belong in the query string; with JSON, options go in the body")
        )


def _checked(options: type[Q], values: Mapping[str, Any], source: str, *, strict: bool) -> Q:
    try:
        return options.model_validate(values, strict=strict)
    except ValidationError as error:
        known = [*options.model_fields]
        raise InvalidInput(*(_explained(each, known) for each in error.errors(include_url=False))).within(
            source
        ) from None


def _explained(error: ErrorDetails, known: list[str]) -> tuple[Loc, str]:
    """Pydantic's finding in the words of someone who can mend it; what was sent is not repeated."""
    loc = error["loc"]
    field = ".".join(map(str, loc))
    match error["type"]:
        case "extra_forbidden":
            nearest = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            return loc, f"{field} is not known here; {hint}there is {listed(known)}"
        case "missing":
            return loc, f"{field} is missing"
        case "value_error":
            return loc, error["msg"].removeprefix("Value error, ")
        case _:
            return loc, f"{field}: {error['msg'].lower().replace('input should', 'this must')}"


def _check_schema(model: ServedModel, *claims: str | None) -> None:
    manifest = model.bundle.manifest
    if any(claim is not None and claim != manifest.schema_hash for claim in claims):
        raise SchemaMismatch(
            f"model '{manifest.name}' version {manifest.version} has schema_hash {manifest.schema_hash}, the request "
            f"expects another: its columns may be in another order; compare them with /models/{manifest.name}"
        )

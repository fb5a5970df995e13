"""Inference requests of the Open Inference Protocol: `run` is the path that REST and gRPC share, the rest is REST."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from starlette.types import Receive

from app.api.answer import Answer
from app.api.body import CODINGS, PLAIN, coding_of, inflate, read_body, room
from app.api.documents import MAX_PIECE_BYTES, parse_document
from app.api.headers import BINARY, JSON, RawHeaders, read_stream, read_timeout, timing_lines
from app.api.oip import schemas
from app.api.oip.models import Options, Signature, find
from app.api.oip.statistics import Statistics
from app.api.oip.tensors import Written, check_outputs, may_hold_booleans, read_inputs, read_raw, split
from app.api.validation import check_schema, checked
from app.errors import MAX_NAME_CHARS, InvalidInput, cut, did_you_mean
from app.inference.jobs import ANY_TIME, Ticket, Timing
from app.rows import Array, parse_json
from app.service import Service

C = TypeVar("C")
A = TypeVar("A")
# The parameters that change an answer, and how many others a request may have, since each is compared with them.
EFFECTIVE = (*Options.model_fields, "timeout", "binary_data_output")
# Options of the native endpoints that are a name, a header or an input here: whoever sends one means something by it.
NATIVE = frozenset(("encoder", "model", "schema_hash", "targets"))
MAX_FOREIGN = 32
HEADER_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
NO_OPTIONS = Options()
# Of the JSON before binary numbers; what is longer is not kept.
MAX_KEPT_BYTES = 2**10


@dataclass(slots=True)
class InferCall:
    """The parsed body of an inference request: its tensors, [B, width] each, and its options."""

    inputs: dict[str, Array]
    outputs: list[schemas.InferOutput]
    answers_binary: bool
    options: Options
    id: str | None = None
    timeout_s: float | None = None


class InferHead(NamedTuple):
    """What is known before the body is read: the model, the headers (metadata in gRPC), when the request arrived
    (`time.monotonic`), and the time that gRPC leaves."""

    name: str
    version: str | None
    headers: RawHeaders
    arrived: float
    left_s: float | None = None


async def run(
    service: Service,
    head: InferHead,
    receive: Callable[[], Awaitable[C]],
    read: Callable[[C, Signature], InferCall],
    write: Callable[[Signature, InferCall, dict[str, Array]], A],
) -> tuple[A, Timing]:
    """Receives, reads and computes a request that was admitted, writes its answer, and counts how long each step
    took."""
    arrived, headers = head.arrived, head.headers
    signature = find(service.registry, head.name, head.version)
    if (schema_hash := headers.get(b"x-schema-hash")) is not None:
        check_schema(signature.model, {schema_hash.decode("latin-1")})
    counted = Statistics(service.telemetry.ledger, signature.name)
    try:
        content = await receive()
        read_at = monotonic()
        call = read(content, signature)
        computing_at = monotonic()
        outputs, timing = await signature.compute(call.inputs, call.options, _ticket(call, head))
        writing_at = monotonic()
        answer = write(signature, call, outputs)
        done_at = monotonic()
    except Exception:
        counted.failed(monotonic() - arrived)
        raise
    counted.succeeded(
        max(map(len, call.inputs.values())),
        signature.queue.limits.max_rows,
        timing,
        input_s=computing_at - read_at,
        output_s=done_at - writing_at,
        seconds=done_at - arrived,
    )
    return answer, timing


def about(signature: Signature, call: InferCall) -> dict[str, str]:
    """The fields of an answer other than its tensors."""
    names = {"model_name": signature.name, "model_version": signature.version}
    return names if call.id is None else names | {"id": call.id}


class Body(NamedTuple):
    """The body of a request, decompressed, and how many bytes of it are JSON: 0 if it is one raw tensor, None if it is
    JSON to the end."""

    content: bytes
    header: int | None
    # What is in the JSON, if that was too large to be parsed in one piece.
    document: Any = None


async def read_plain_body(receive: Receive, headers: RawHeaders, service: Service) -> Body:
    """The body, decompressed if need be (in a thread, so that other requests need not wait)."""
    max_bytes = service.settings.max_body_bytes
    content = await read_body(headers, receive, max_bytes)
    coding = coding_of(headers)
    if coding in PLAIN:
        return await parse_large(content, headers, service)
    # A few kilobytes may become as many bytes as a body may have.
    with room(service.buffers, max_bytes):
        return await parse_large(await asyncio.to_thread(inflate, content, coding, max_bytes), headers, service)


async def parse_large(content: bytes, headers: RawHeaders, service: Service) -> Body:
    """With its document, if that is too large to be parsed in one piece."""
    header = _header_length(headers)
    size = len(content) if header is None else header
    if size <= MAX_PIECE_BYTES:
        return Body(content, header)
    return Body(content, header, await parse_document(content[:size], service))


def read_call(body: Body, signature: Signature, max_rows: int) -> InferCall:
    """Parses a body of JSON, of JSON with binary tensors behind it, or of the one input alone as raw numbers."""
    if body.header == 0:
        return InferCall(read_raw(body.content, signature.inputs, max_rows), [], True, NO_OPTIONS)
    text, binary = (body.content, b"") if body.header is None else split(body.content, body.header)
    if binary and len(text) <= MAX_KEPT_BYTES:
        request = _kept(text)
    else:
        request = validated(_json_object(text if body.document is None else body.document))
    return read_inference(request, binary, signature, max_rows, booleans=may_hold_booleans(text))


def validated(document: dict[str, Any]) -> schemas.InferRequest:
    return checked(schemas.InferRequest, document, "body", strict=True)


@lru_cache(maxsize=64)
def _kept(text: bytes) -> schemas.InferRequest:
    """Binary numbers come behind the same JSON with each frame, which is validated once; nobody changes the result."""
    return validated(_json_object(text))


def read_inference(
    request: schemas.InferRequest, binary: bytes, signature: Signature, max_rows: int, *, booleans: bool = True
) -> InferCall:
    """Reads a request; `binary` holds the data of the inputs whose data is not in the document, and `booleans` is
    whether the document may contain any."""
    wanted, parameters = request.outputs or [], request.parameters
    if wanted:
        check_outputs(wanted, [*signature.outputs])
    options = NO_OPTIONS
    if parameters.model_extra and (own := _own(parameters.model_extra)):
        options = checked(Options, own, "body", strict=True)
        signature.check_options(options)
    inputs = read_inputs(request.inputs, binary, signature.inputs, max_rows, booleans=booleans)
    timeout_s = parameters.timeout / 1e6 if parameters.timeout else None
    return InferCall(inputs, wanted, parameters.binary_data_output, options, request.id, timeout_s)


def _own(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those of this service. Clients add some for themselves, such as MLServer's content_type, which are ignored; but
    one that looks like a misspelt one of those with an effect is an InvalidInput."""
    foreign = parameters.keys() - Options.model_fields.keys()
    if len(foreign) > MAX_FOREIGN:
        raise InvalidInput((("parameters",), f"more than {MAX_FOREIGN} parameters are not known here; leave them out"))
    for name in sorted(foreign):
        hint = did_you_mean(name, EFFECTIVE) if len(name) <= MAX_NAME_CHARS else "no parameter has so long a name"
        if name in NATIVE:
            hint = f"the options are {', '.join(Options.model_fields)}"
        if hint:
            raise InvalidInput((("parameters", cut(name)), f"{cut(name)} is not known here; {hint.strip()}"))
    return {name: value for name, value in parameters.items() if name not in foreign and value is not None}


def _header_length(headers: RawHeaders) -> int | None:
    """Length of the JSON in bytes: 0 if the body is one raw tensor, None if it is JSON to the end."""
    text = headers.get(_HEADER_LENGTH)
    if text is None:
        return 0 if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == BINARY else None
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput(((HEADER_LENGTH,), f"{HEADER_LENGTH} must be the bytes of JSON at the body's start"))
    return int(text)


def _json_object(content: bytes | Any) -> dict[str, Any]:
    document = parse_json(content) if isinstance(content, bytes) else content
    if not isinstance(document, dict):
        raise InvalidInput(((), 'the body must be a JSON object such as {"inputs": […]}'))
    return document


def _ticket(call: InferCall, head: InferHead) -> Ticket:
    """The earliest of the deadlines that the body, the headers and gRPC set, and the stream."""
    timeouts_s = [each for each in (call.timeout_s, head.left_s, read_timeout(head.headers)) if each is not None]
    stream = read_stream(head.headers)
    if not timeouts_s and stream is None:
        return ANY_TIME
    return Ticket(head.arrived + min(timeouts_s) if timeouts_s else None, stream)


async def respond(answer: Written, timing: Timing, request_headers: RawHeaders) -> Answer:
    """The answer over HTTP, compressed if the client explicitly asks for it."""
    body, lines = answer.body, timing_lines(timing)
    if answer.header is None:
        lines += b"content-type: %s\r\n" % JSON
    else:
        lines += b"content-type: %s\r\n%s: %d\r\n" % (BINARY, _HEADER_LENGTH, answer.header)
    # Floats hardly shrink, so only a single coding counts as a request for compression. A list of several is what HTTP
    # libraries send on their own.
    if (accepted := request_headers.get(b"accept-encoding", b"").strip().lower()) in CODINGS:
        body = await asyncio.to_thread(zlib.compress, body, 1, CODINGS[accepted])
        # Clients that ask for x-gzip know gzip, and some of the others do not know x-gzip.
        lines += b"content-encoding: %s\r\n" % accepted.removeprefix(b"x-")
    return Answer(200, b"content-length: %d\r\n%s" % (len(body), lines), body)

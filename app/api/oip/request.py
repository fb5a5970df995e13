"""One request for an inference in the Open Inference Protocol: counted and computed alike over REST and gRPC, read from
REST, and answered there."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from app.api.body import CODINGS, inflate, read_body
from app.api.headers import BINARY, JSON, RawHeaders, read_timeout, timing_headers
from app.api.oip import schemas
from app.api.oip.models import Options, Signature, find
from app.api.oip.statistics import Statistics
from app.api.oip.tensors import Written, check_outputs, read_inputs, read_raw, split
from app.api.validation import check_schema, checked
from app.errors import InvalidInput
from app.inference.jobs import Ticket, Timing
from app.rows import Array, parse_json
from app.service import Service

C = TypeVar("C")
A = TypeVar("A")
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(slots=True)
class Asked:
    inputs: dict[str, Array]
    outputs: list[schemas.InferOutput]
    answers_binary: bool
    options: Options
    id: str | None = None
    timeout_s: float | None = None


class Question(NamedTuple):
    """Which model is asked, and what is said beside the tensors: headers, or what gRPC calls metadata."""

    name: str
    version: str | None
    headers: RawHeaders


async def run(
    service: Service,
    question: Question,
    receive: Callable[[], Awaitable[C]],
    read: Callable[[C, Signature], Asked],
    make: Callable[[Signature, Asked, dict[str, Array]], A],
) -> tuple[A, Timing]:
    """`receive`s what was sent, `read`s it, computes, and `make`s the answer; counts how long each took."""
    arrived, headers = monotonic(), question.headers
    service.admit()
    signature = find(service.registry, question.name, question.version)
    if (schema_hash := headers.get(b"x-schema-hash")) is not None:
        check_schema(signature.model, {schema_hash.decode("latin-1")})
    counted = Statistics(service.telemetry.ledger, signature.name)
    try:
        content = await receive()
        read_at = monotonic()
        asked = read(content, signature)
        computing_at = monotonic()
        outputs, timing = await signature.compute(asked.inputs, asked.options, ticket(asked, headers, arrived))
        making_at = monotonic()
        answer = make(signature, asked, outputs)
        done_at = monotonic()
    except Exception:
        counted.failed(monotonic() - arrived)
        raise
    counted.succeeded(
        len(next(iter(asked.inputs.values()))),
        signature.queue.limits.max_rows,
        timing,
        input_s=computing_at - read_at,
        output_s=done_at - making_at,
        seconds=done_at - arrived,
    )
    return answer, timing


def about(signature: Signature, asked: Asked) -> dict[str, str]:
    """What an answer says beside its tensors."""
    names = {"model_name": signature.name, "model_version": signature.version}
    return names if asked.id is None else names | {"id": asked.id}


async def read_plain_body(request: Request, headers: RawHeaders, max_bytes: int) -> bytes:
    content = await read_body(headers, request.receive, max_bytes)
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding == b"identity":
        return content
    return await asyncio.to_thread(inflate, content, coding, max_bytes)


def read_asked(content: bytes, headers: RawHeaders, signature: Signature, max_rows: int) -> Asked:
    header = _header_length(headers)
    if header == 0:
        return Asked(read_raw(content, signature.inputs, max_rows), [], True, Options())
    document, binary = (content, b"") if header is None else split(content, header)
    return read_document(json_object(document), binary, signature, max_rows)


def read_document(document: dict[str, Any], binary: bytes, signature: Signature, max_rows: int) -> Asked:
    """`binary` has the tensors that the document only describes."""
    request = checked(schemas.InferRequest, document, "body", strict=True)
    wanted, parameters = request.outputs or [], request.parameters
    check_outputs(wanted, [*signature.outputs])
    options = checked(Options, parameters.model_extra or {}, "body", strict=True)
    signature.check_options(options)
    inputs = read_inputs(request.inputs, binary, signature.inputs, max_rows)
    timeout_s = parameters.timeout / 1e6 if parameters.timeout else None
    return Asked(inputs, wanted, parameters.binary_data_output, options, request.id, timeout_s)


def _header_length(headers: RawHeaders) -> int | None:
    """Of the JSON; 0 where there is none and the body is a tensor, None where the body is all JSON."""
    text = headers.get(HEADER_LENGTH.lower().encode())
    if text is None:
        return 0 if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == BINARY else None
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput(((HEADER_LENGTH,), f"{HEADER_LENGTH} must be the bytes of JSON at the body's start"))
    return int(text)


def json_object(content: bytes) -> dict[str, Any]:
    document = parse_json(content)
    if not isinstance(document, dict):
        raise InvalidInput(((), 'the body must be a JSON object such as {"inputs": […]}'))
    return document


def ticket(asked: Asked, headers: RawHeaders, arrived: float) -> Ticket:
    timeouts_s = [each for each in (asked.timeout_s, read_timeout(headers)) if each is not None]
    stream = headers.get(b"x-stream-id")
    return Ticket(
        arrived + min(timeouts_s) if timeouts_s else None, None if stream is None else stream.decode("latin-1")
    )


async def respond(answer: Written, timing: Timing, request_headers: RawHeaders) -> Response:
    body, headers = answer.body, timing_headers(timing)
    if answer.header is None:
        headers.append((b"content-type", JSON))
    else:
        headers += [(b"content-type", BINARY), (HEADER_LENGTH.lower().encode(), b"%d" % answer.header)]
    # A list of codings is what HTTP libraries send by themselves, and no wish: floats hardly shrink.
    if (accepted := request_headers.get(b"accept-encoding", b"").strip().lower()) in CODINGS:
        body = await asyncio.to_thread(zlib.compress, body, 1, CODINGS[accepted])
        headers.append((b"content-encoding", accepted))
    response = Response(body)
    response.raw_headers += headers
    return response

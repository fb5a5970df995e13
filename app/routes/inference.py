"""One request for an inference in the Open Inference Protocol: read from HTTP, and its answer made."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app import schemas, wire
from app.arrays import Array
from app.batch import Ticket, Timing
from app.errors import InvalidInput
from app.routes.exchange import BINARY, JSON, checked, timing_headers
from app.routes.reading import CODINGS, RawHeaders, inflate, read_body, read_timeout
from app.signatures import Options, Signature
from app.tensors import Written, check_outputs, read_inputs, read_raw, split

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(slots=True)
class Asked:
    inputs: dict[str, Array]
    outputs: list[schemas.InferOutput]
    answers_binary: bool
    options: Options
    id: str | None = None
    timeout_s: float | None = None


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
    request = checked(schemas.InferRequest, json_object(document), "body", strict=True)
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
    document = wire.parse_json(content)
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

"""Parses JSON bodies so that the event loop turns in between.

A parser in C holds the interpreter until it is done, whatever thread it runs in: 16 MiB would hold up every bot for a
second. All that makes a right body large is numbers, so those are cut out and parsed piece by piece:

    {"features": [[1, 2], [3, 4], [5, 6], … [7, 8]]}      body
    {"features": [[1, 2], 0.7182,           [7, 8]]}      what is left; the number stands for the piece [3, 4], [5, 6] …

A piece goes from one comma to another and is parsed as a list. If it is one, with neither text nor objects in it, its
place can be taken by any number without making right JSON wrong or wrong JSON right.
"""

import random
from collections.abc import Iterator
from typing import Any

from app.errors import InvalidInput, MalformedBody, TooManyRows
from app.rows import parse_json
from app.service import Service

# What is parsed at once: 0.2 ms of numbers as they are usually written, 1 ms at most.
MAX_PIECE_BYTES = 2**16
# Of what is left when the numbers are cut out.
MAX_REST_BYTES = 2**18
# How many fields of rows, each of `max_rows`, a request may have.
MAX_FIELDS = 4


async def parse_document(body: bytes, service: Service) -> Any:
    """The document in the body; raises MalformedBody, or TooManyRows or InvalidInput if no right one is as large."""
    if len(body) <= MAX_PIECE_BYTES:
        return parse_json(body)
    # One at a time: as lists of Python's floats, a document takes several times the memory of its body.
    async with service.parsing:
        return await _parse_by_pieces(body, service)


async def _parse_by_pieces(body: bytes, service: Service) -> Any:
    pieces: dict[float, list[Any]] = {}
    rest = bytearray()
    rows_left, numbers_left = MAX_FIELDS * service.settings.max_rows, MAX_FIELDS * service.max_numbers
    rests_left = 2 * rows_left + MAX_FIELDS
    for start, stop in _cuts(body):
        piece = _numbers(body[start:stop])
        if piece is None:
            rest += body[start : stop + 1]
            rests_left -= 1
        else:
            # Nobody who sends a body can know it.
            mark = random.random()
            pieces[mark] = piece
            rest += b"%r," % mark if stop < len(body) else b"%r" % mark
            lists = [each for each in piece if isinstance(each, list)]
            rows_left -= len(lists)
            numbers_left -= sum(map(len, lists)) if lists else len(piece)
        if rows_left < 0 or numbers_left < 0:
            raise TooManyRows(
                f"the request has more rows or numbers than any may have; the limit is {service.settings.max_rows} "
                "rows, send them in several requests"
            )
        if len(rest) > MAX_REST_BYTES or rests_left < 0:
            detail = f"the body has more than {MAX_REST_BYTES} bytes that are no rows; send what the endpoint takes"
            if not rest.lstrip().startswith((b"{", b"[")):
                raise MalformedBody(f"the body is no JSON, and {detail}")
            raise InvalidInput(((), detail)).within("body")
        await service.turns.pause()
    return _filled(parse_json(bytes(rest)), pieces)


def _cuts(body: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each piece. Between them is a comma: behind a row where there is one, elsewhere behind a number.
    Within a row that is longer than a piece, its begin and its end are pieces of their own."""
    start, after_row = 0, True
    while start < len(body):
        window = start + MAX_PIECE_BYTES
        stop, begins_after_row = -1, after_row
        if window >= len(body):
            stop = len(body)
        elif begins_after_row:
            row_end = body.rfind(b"],", start, window)
            after_row = row_end >= 0
            stop = row_end + 1 if after_row else body.find(b",", start)
        else:
            row_end = body.find(b"]", start, window)
            stop = body.rfind(b",", start, window if row_end < 0 else row_end)
            after_row = stop < 0
            if after_row:
                stop = body.find(b",", start)
        stop = len(body) if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _numbers(piece: bytes) -> list[Any] | None:
    """The piece as a list, or None if it is none, or holds more than numbers and lists."""
    if b'"' in piece or b"{" in piece:
        return None
    try:
        found: list[Any] = parse_json(b"[%s]" % piece)
    except MalformedBody:
        return None
    # Between two commas there is something.
    return found or None


def _filled(document: Any, pieces: dict[float, list[Any]]) -> Any:
    """The document with the pieces in the places of their marks."""
    open_parts = [document]
    while open_parts:
        part = open_parts.pop()
        members = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        open_parts += [member for member in members if isinstance(member, dict | list)]
        if isinstance(part, list) and any(type(member) is float and member in pieces for member in part):
            filled: list[Any] = []
            for member in part:
                filled += pieces.get(member, (member,)) if type(member) is float else (member,)
            part[:] = filled
    return document

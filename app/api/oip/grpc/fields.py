"""Counts the fields of a protobuf message before it is parsed: parsing makes an object of each, however short it is.

A message of 16 MiB can hold eight million empty tensors of two bytes each, which take 720 MiB when they are parsed.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from app.api.validation import MAX_MEMBERS
from app.errors import InvalidInput, MalformedBody
from bundle.protobuf import DELIMITED, FIXED32, FIXED64, MAX_VARINT_BYTES, VARINT, read_varint

# Whatever is written as varints takes at least one byte for each value; parsed it takes up to eight.
MAX_PARSED_BYTES = 8
# All but the last byte of a varint.
CONTINUED = bytes(range(0x80, 0x100))

# What may lie within a field, by its number: the fields of a message, or None for a list of integers.
Parts = dict[int, "Parts | None"]


def parts_of(described: Any) -> Parts:
    """Of a message, given its descriptor."""
    parts: Parts = {}
    for field in described.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            parts[field.number] = parts_of(field.message_type)
        elif field.is_repeated and field.cpp_type not in (
            FieldDescriptor.CPPTYPE_STRING,
            FieldDescriptor.CPPTYPE_FLOAT,
            FieldDescriptor.CPPTYPE_DOUBLE,
        ):
            parts[field.number] = None
    return parts


def check_fields(message: bytes, parts: Parts, max_bytes: int) -> None:
    """Raises InvalidInput for more fields than any right message has, or for integers that would take more than
    `max_bytes`; MalformedBody where a field does not end within the message."""
    fields_left, integers_left = MAX_MEMBERS, max_bytes // MAX_PARSED_BYTES
    unread = [(0, len(message), parts)]
    while unread:
        at, end, known = unread.pop()
        while at < end:
            if not fields_left:
                raise InvalidInput(((), f"the message has more than {MAX_MEMBERS} fields; pack its numbers"))
            fields_left -= 1
            key, at = _varint(message, at)
            number, kind = key >> 3, key & 7
            if kind == DELIMITED:
                size, at = _varint(message, at)
                inner = known.get(number, {})
                if inner is None:
                    integers_left -= len(message[at : min(at + size, end)].translate(None, CONTINUED))
                elif inner:
                    unread.append((at, at + size, inner))
                at += size
            elif kind == VARINT:
                _, at = _varint(message, at)
            elif kind in (FIXED32, FIXED64):
                at += 4 if kind == FIXED32 else 8
            else:
                raise _malformed(f"a field is written in way {kind}, which this protocol does not use")
            if at > end:
                raise _malformed("a field goes on behind the end of what it lies in")
            if integers_left < 0:
                limit = max_bytes // MAX_PARSED_BYTES
                raise InvalidInput(((), f"the message has more than {limit:,} integers; send fewer rows at once"))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    try:
        return read_varint(message, at)
    except IndexError:
        raise _malformed("it ends within a number") from None
    except ValueError:
        raise _malformed(f"a number in it is longer than {MAX_VARINT_BYTES} bytes") from None


def _malformed(reason: str) -> MalformedBody:
    return MalformedBody(f"the message cannot be read: {reason}; let a protobuf library write it")

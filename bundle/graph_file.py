"""Refuses an ONNX file that reaches for other files.

A tensor may keep its numbers in a file that the graph names: one that is in no manifest, whose size nobody has checked,
and which may be a FIFO. ONNX Runtime would open it. Here the messages of Protocol Buffers that can hold a tensor are
walked through, without the `onnx` package, which the service does without.
"""

from collections.abc import Iterator
from pathlib import Path

from bundle.files import read_file
from bundle.folders import BundleError
from bundle.protobuf import DELIMITED, FIXED32, FIXED64, VARINT, read_varint

# Protocol Buffers allow no larger message.
MAX_GRAPH_BYTES = 2**31 - 1
# Fields of a graph's messages that are walked through; a graph of a thousand nodes has tens of thousands.
MAX_FIELDS = 2_000_000
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: of each message, the numbers of the fields that may lead to a
# tensor, and what they hold.
HOLDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 13, 14, 1


def check_graph(path: Path) -> None:
    """Raises BundleError where the file is no ONNX graph, or keeps numbers in another file."""
    content = read_file(path, MAX_GRAPH_BYTES)
    try:
        is_whole = not _reaches_out(content)
    except (IndexError, ValueError) as error:
        raise BundleError(f"{path} cannot be loaded: it is no ONNX graph ({error})") from None
    if not is_whole:
        raise BundleError(f"{path} keeps numbers in another file; save the graph with its numbers in it")


def _reaches_out(content: bytes) -> bool:
    left, open_parts = MAX_FIELDS, [("Model", 0, len(content))]
    while open_parts:
        message, start, end = open_parts.pop()
        holds, is_tensor = HOLDS[message], message == "Tensor"
        for number, value, stop in _fields(content, start, end):
            left -= 1
            if left < 0:
                raise ValueError(f"it has more than {MAX_FIELDS} parts")
            if stop is None:
                if is_tensor and number == DATA_LOCATION and value == EXTERNAL:
                    return True
            elif number in holds:
                open_parts.append((holds[number], value, stop))
            elif is_tensor and number == EXTERNAL_DATA:
                return True
    return False


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Of each field in a message its number, then a number and None, or where its bytes begin and stop."""
    while at < end:
        key, at = read_varint(content, at)
        kind = key & 7
        if kind == VARINT:
            value, at = read_varint(content, at)
            yield key >> 3, value, None
        elif kind == DELIMITED:
            size, at = read_varint(content, at)
            yield key >> 3, at, at + size
            at += size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
    if at > end:
        raise ValueError("a field is longer than the message that holds it")

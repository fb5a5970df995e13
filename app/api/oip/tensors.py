"""Tensors of the Open Inference Protocol, in JSON and in its binary extension: bytes to float32 rows and back.

A body with binary tensors is JSON followed by their data, in the order in which the JSON lists them:

    ├── JSON ───────────────────────────┤├── first binary tensor ──┤├── second ──┤ …
      Inference-Header-Content-Length      binary_data_size            …              bytes

The data is little-endian and row-major, without padding. A tensor whose JSON has `data` takes no bytes there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.api.oip.schemas import InferInput, InferOutput
from app.errors import InvalidInput, MalformedBody, listed
from app.inference.actions import FIELD, ActionLayout
from app.rows import (
    FLOAT32_LE,
    Array,
    Fields,
    Layout,
    binary_rows,
    check_alike,
    check_count,
    float32_bytes,
    json_bytes,
    json_rows,
)

# The NumPy type of each datatype in binary data.
BINARY_TYPES: dict[str, np.dtype[Any]] = {"FP32": FLOAT32_LE, "INT64": np.dtype("<i8"), "BOOL": np.dtype("u1")}


class Input(NamedTuple):
    """An input of a model, [-1, width] or, if `flat`, [-1]; any of its datatypes is converted to float32."""

    layout: Layout
    datatypes: tuple[str, ...] = ("FP32",)
    optional: bool = False
    flat: bool = False
    # Where it holds the player's own inputs, [-1, -1, A]: of each row, or of candidates for one.
    actions: ActionLayout | None = None

    @property
    def name(self) -> str:
        return self.layout.field

    @property
    def shape(self) -> list[int]:
        if self.actions is not None:
            return [-1, -1, self.actions.width]
        return [-1] if self.flat else [-1, self.layout.width]


class Written(NamedTuple):
    """A body and, if binary outputs follow its JSON, the length of the JSON in bytes as `header`."""

    body: bytes
    header: int | None


def split(body: bytes, header: int) -> tuple[bytes, bytes]:
    """Splits a body into its JSON of `header` bytes and the binary data behind it."""
    if header > len(body):
        raise MalformedBody(
            f"Inference-Header-Content-Length is {header}, but the body has {len(body)} bytes; "
            "it must be the length of the JSON at the body's start"
        )
    return body[:header], body[header:]


def may_hold_booleans(text: bytes) -> bool:
    """False only if no data in the JSON contains a boolean, which `app.rows` knows by its letters."""
    start = text.find(b'"data"')
    # With an escape in it, the name of a member is written otherwise.
    return text.find(b"u", start) >= 0 or text.find(b"s", start) >= 0 or b"\\" in text


def read_inputs(
    sent: Sequence[InferInput], binary: bytes, taken: Sequence[Input], max_rows: int, *, booleans: bool = True
) -> dict[str, Array]:
    """Inputs by name, [B, width] each with the same B, every number finite, and actions [N, n, A]; raises InvalidInput
    or TooManyRows. `booleans` is whether data in JSON may contain any."""
    known = {each.name: each for each in taken}
    rows: dict[str, Array] = {}
    for (i, tensor), blob in zip(enumerate(sent), _blobs(sent, binary), strict=True):
        if tensor.name not in known:
            raise _invalid(f"inputs[{i}]", f"is no input of this model; it takes {listed([*known])}")
        if tensor.name in rows:
            raise _invalid(tensor.name, "is given twice; give it once")
        rows[tensor.name] = _rows(tensor, blob, known[tensor.name], max_rows, booleans)
    for each in taken:
        if not each.optional and each.name not in rows:
            raise _invalid(each.name, f"is missing; the model takes it with shape {each.shape}")
    if len(rows) > 1:
        check_alike({each.name: rows[each.name] for each in taken if each.actions is None and each.name in rows})
    return rows


def read_raw(body: bytes, taken: Sequence[Input], max_rows: int) -> dict[str, Array]:
    """Reads a body that is nothing but the numbers of the model's one required input."""
    required = [each for each in taken if not each.optional]
    if len(required) > 1:
        raise _invalid(
            "the body",
            f"holds bare numbers, but the model takes {listed([each.name for each in required])}; send "
            "Inference-Header-Content-Length and say in JSON which numbers are whose",
        )
    (rows,) = binary_rows(body, Fields(required[0].layout), max_rows)
    return {required[0].name: rows}


def _blobs(sent: Sequence[InferInput], binary: bytes) -> list[bytes | None]:
    """The binary data of each input, None for inputs in JSON."""
    sizes = [tensor.parameters.binary_data_size for tensor in sent]
    total = sum(filter(None, sizes))
    if total != len(binary):
        raise MalformedBody(
            f"{len(binary)} bytes follow the JSON, but the binary_data_size of the inputs add up to {total}; "
            "Inference-Header-Content-Length must be the length of the JSON"
        )
    blobs: list[bytes | None] = []
    start = 0
    for size in sizes:
        blobs.append(None if size is None else binary[start : start + size])
        start += size or 0
    return blobs


def _rows(tensor: InferInput, blob: bytes | None, taken: Input, max_rows: int, booleans: bool) -> Array:
    """[B, width] of one input; `blob` is its binary data, if any."""
    name, layout = taken.name, taken.layout
    if tensor.parameters.shared_memory_region is not None:
        raise _invalid(name, "lies in shared memory, which is not offered; send it as data or as binary data")
    if tensor.datatype not in taken.datatypes:
        raise _invalid(
            name,
            f"has datatype {tensor.datatype}, model '{layout.model}' takes {' or '.join(taken.datatypes)}; "
            "convert it, in NumPy with .astype(numpy.float32)",
        )
    actions = taken.actions
    count, width = _count(tensor, taken) if actions is None else _count_inputs(tensor, actions, max_rows)
    if (blob is None) == (tensor.data is None):
        raise _invalid(name, "must have either data or, in parameters, binary_data_size")
    if blob is None:
        if actions is not None:
            return _json_actions(tensor, actions, max_rows, booleans)
        return _json_rows(tensor, count, taken, max_rows, booleans and tensor.datatype != "BOOL")
    kind = BINARY_TYPES[tensor.datatype]
    if len(blob) != (size := count * width * kind.itemsize):
        raise _invalid(
            name,
            f"has {len(blob)} bytes of binary data, but its shape {tensor.shape} of {tensor.datatype} takes {size}",
        )
    if actions is not None:
        return actions.checked(np.frombuffer(blob, kind).reshape(tensor.shape))
    floats = blob if tensor.datatype == "FP32" else np.frombuffer(blob, kind).astype(FLOAT32_LE).tobytes()
    return binary_rows(floats, Fields(layout), max_rows)[0]


def _count(tensor: InferInput, taken: Input) -> tuple[int, int]:
    """The rows in the tensor's shape, and the numbers of each; raises InvalidInput unless the model takes that."""
    layout, shape = taken.layout, tensor.shape
    if taken.flat and len(shape) == 1:
        shape = [*shape, 1]
    if len(shape) != 2:
        raise _invalid(
            taken.name,
            f"has shape {shape}, model '{layout.model}' takes {taken.shape}; one row has shape {[1, *taken.shape[1:]]}",
        )
    if shape[1] != layout.width:
        raise layout.wrong_width((taken.name,), shape[1])
    if not shape[0]:
        raise _invalid(taken.name, "is empty; send at least one row")
    return shape[0], shape[1]


def _count_inputs(tensor: InferInput, actions: ActionLayout, max_rows: int) -> tuple[int, int]:
    """As `_count`, of inputs [N, n, A]; raises TooManyRows as well."""
    shape = tensor.shape
    if len(shape) != 3 or shape[2] != actions.width or not shape[0]:
        raise _invalid(
            FIELD,
            f"has shape {shape}, model '{actions.model}' takes [rows, frames, {actions.width}], of at most "
            f"{actions.max_actions} frames; /models/{actions.model} names the {actions.width} in order",
        )
    actions.check_frames(shape[1])
    check_count(shape[0], max_rows)
    return shape[0], shape[1] * shape[2]


def _json_actions(tensor: InferInput, actions: ActionLayout, max_rows: int, booleans: bool) -> Array:
    """[N, n, A] of `data`, which may be flat or nested, null where a number is not known."""
    data, (count, frames, width) = tensor.data, tensor.shape
    if isinstance(data, list) and data and not isinstance(data[0], list):
        if len(data) != (size := count * frames * width):
            raise _invalid(FIELD, f"has {len(data)} numbers, but its shape {tensor.shape} takes {size}")
        inputs = [data[start : start + width] for start in range(0, len(data), width)]
        data = [inputs[start : start + frames] for start in range(0, len(inputs), frames)]
    found, _ = actions.json_actions(data, count, max_rows, booleans=booleans)
    if list(found.shape) != tensor.shape:
        raise _invalid(FIELD, f"has shape {list(found.shape)}, but its shape {tensor.shape} says otherwise")
    return actions.checked(found)


def _json_rows(tensor: InferInput, count: int, taken: Input, max_rows: int, booleans: bool) -> Array:
    """[B, width] of `data`, which may be flat or nested."""
    data, width = tensor.data, taken.layout.width
    if isinstance(data, list) and data and not isinstance(data[0], list):
        if len(data) != count * width:
            raise _invalid(taken.name, f"has {len(data)} numbers, but its shape {tensor.shape} takes {count * width}")
        data = [data[start : start + width] for start in range(0, len(data), width)]
    rows, _ = json_rows(data, taken.layout, max_rows, booleans=booleans)
    if len(rows) != count:
        raise _invalid(taken.name, f"has {len(rows)} rows, but its shape {tensor.shape} says {count}")
    return rows


def write(
    document: Mapping[str, object], outputs: Mapping[str, Array], wanted: Sequence[InferOutput], binary: bool
) -> Written:
    """The body of an answer: `document` and the wanted outputs, as binary data if they or else `binary` ask for it."""
    binary_by_name = {each.name: each.parameters.binary_data for each in wanted}
    tensors, blobs = [], []
    for name, rows in choose(outputs, wanted).items():
        wants_binary = binary_by_name.get(name)
        tensor: dict[str, object] = {"name": name, "datatype": "FP32", "shape": rows.shape}
        if binary if wants_binary is None else wants_binary:
            blobs.append(float32_bytes(rows))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = rows.ravel()
        tensors.append(tensor)
    header = json_bytes({**document, "outputs": tensors})
    return Written(b"".join([header, *blobs]), len(header) if blobs else None)


def choose(outputs: Mapping[str, Array], wanted: Sequence[InferOutput]) -> dict[str, Array]:
    """The wanted outputs, or all if none is named; raises InvalidInput for one that was not computed."""
    chosen = {}
    for name in [each.name for each in wanted] or outputs:
        if name not in outputs:
            raise _invalid(name, "is not known at this horizon, or its parameter is not set; leave it out of outputs")
        chosen[name] = outputs[name]
    return chosen


def check_outputs(wanted: Sequence[InferOutput], known: Sequence[str]) -> None:
    """Raises InvalidInput for outputs that the model cannot give; called before anything is computed."""
    for i, each in enumerate(wanted):
        if each.name not in known:
            raise _invalid(f"outputs[{i}]", f"is no output of this model; it has {listed(known)}")
        if each.parameters.shared_memory_region is not None or each.parameters.classification is not None:
            raise _invalid(
                f"outputs[{i}]", "asks for shared memory or a classification, which are not offered; leave them out"
            )


def _invalid(field: str, what: str) -> InvalidInput:
    return InvalidInput(((field,), f"{field} {what}"))

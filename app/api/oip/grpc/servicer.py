"""The methods of the Open Inference Protocol over gRPC, with the same documents, queues and statistics as over REST.

`app.api.oip.grpc.server` calls them.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NamedTuple

from app.api.headers import timing_lines, to_pairs
from app.api.oip import metadata
from app.api.oip.grpc.messages import message
from app.api.oip.models import Signature, find, signatures
from app.api.oip.repository import check_repository_request
from app.api.oip.request import InferCall, InferHead, about, read_inference, run, validated
from app.api.oip.tensors import choose
from app.errors import InvalidInput, ServiceError, TooManyRows
from app.rows import Array, float32_bytes
from app.service import Service

CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}

Message = Any
Infer = message("ModelInferResponse")


class Metadata(NamedTuple):
    """What comes with the message of a call: its metadata as headers, and the seconds left before its deadline."""

    headers: dict[bytes, bytes]
    left_s: float | None


Method = Callable[[Service, Message, Metadata], Awaitable[dict[str, Any]]]


async def _server_live(_: Service, __: Message, ___: Metadata) -> dict[str, Any]:
    return {"live": True}


async def _server_ready(service: Service, _: Message, __: Metadata) -> dict[str, Any]:
    try:
        await service.check_ready()
    except ServiceError:
        return {"ready": False}
    return {"ready": True}


async def _server_metadata(_: Service, __: Message, ___: Metadata) -> dict[str, Any]:
    return metadata.server()


async def _model_ready(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    try:
        service.admit()
        _signature(service, request)
    except ServiceError:
        return {"ready": False}
    return {"ready": True}


async def _model_metadata(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    return metadata.metadata(_signature(service, request))


async def _model_config(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    return {"config": metadata.config(_signature(service, request), service.settings.max_rows)}


async def _model_statistics(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    asked = [_signature(service, request)] if request.name else signatures(service.registry)
    return {"model_stats": metadata.statistics(service, asked)}


async def _repository_index(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    return {"models": metadata.index(service, ready=request.ready)}


async def _repository_load(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    service.check_control()
    wanted = check_repository_request({"parameters": _values(request.parameters)})
    await service.watcher.load(request.model_name, wanted.parameters.version)
    return {}


async def _repository_unload(service: Service, request: Message, _: Metadata) -> dict[str, Any]:
    service.check_control()
    check_repository_request({"parameters": _values(request.parameters)})
    await service.watcher.unload(request.model_name)
    return {}


async def infer(service: Service, request: Message, metadata: Metadata) -> tuple[Message, list[tuple[str, str]]]:
    """The answer, and the metadata to send with it."""

    async def receive() -> Message:
        return request

    def read(request: Message, signature: Signature) -> InferCall:
        binary, max_rows = b"".join(request.raw_input_contents), service.settings.max_rows
        widest = max(each.layout.width for each in signature.inputs)
        return read_inference(validated(_document(request, max_rows * widest)), binary, signature, max_rows)

    service.admit()
    head = InferHead(request.model_name, request.model_version or None, metadata.headers, monotonic(), metadata.left_s)
    answer, timing = await run(service, head, receive, read, _answer)
    return answer, [(name.decode(), value.decode()) for name, value in to_pairs(timing_lines(timing))]


def _signature(service: Service, request: Message) -> Signature:
    return find(service.registry, request.name, request.version or None)


def _values(parameters: Message) -> dict[str, Any]:
    return {name: getattr(each, each.WhichOneof("parameter_choice") or "", None) for name, each in parameters.items()}


def _document(request: Message, max_numbers: int) -> dict[str, Any]:
    """The request as REST would send it: raw contents count as binary data behind the JSON. Raises TooManyRows for an
    input of more numbers than any may have, before they become a list."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        detail = f"there are {len(raw)} raw_input_contents for {len(request.inputs)} inputs; send one for each, or none"
        raise InvalidInput((("raw_input_contents",), detail))
    inputs = []
    for i, tensor in enumerate(request.inputs):
        described = {"name": tensor.name, "shape": [*tensor.shape], "datatype": tensor.datatype}
        parameters = _values(tensor.parameters)
        parameters.pop("binary_data_size", None)
        if raw and tensor.contents.ByteSize():
            detail = f"inputs[{i}] has both contents and raw_input_contents; send its numbers once"
            raise InvalidInput((("inputs", i), detail))
        if raw:
            parameters["binary_data_size"] = len(raw[i])
        else:
            contents = getattr(tensor.contents, CONTENTS.get(tensor.datatype, "fp32_contents"))
            if len(contents) > max_numbers:
                raise TooManyRows(f"inputs[{i}] has {len(contents):,} numbers, the limit is {max_numbers:,}; send less")
            described["data"] = [*contents]
        inputs.append(described | {"parameters": parameters})
    outputs = [{"name": each.name, "parameters": _values(each.parameters)} for each in request.outputs]
    return {
        "id": request.id or None,
        "inputs": inputs,
        "outputs": outputs or None,
        "parameters": _values(request.parameters),
    }


def _answer(signature: Signature, call: InferCall, outputs: dict[str, Array]) -> Message:
    chosen = choose(outputs, call.outputs)
    described = [{"name": name, "datatype": "FP32", "shape": rows.shape} for name, rows in chosen.items()]
    raw = [float32_bytes(rows) for rows in chosen.values()]
    return Infer(**about(signature, call), outputs=described, raw_output_contents=raw)


ANSWERS: dict[str, Method] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ServerMetadata": _server_metadata,
    "ModelReady": _model_ready,
    "ModelMetadata": _model_metadata,
    "ModelConfig": _model_config,
    "ModelStatistics": _model_statistics,
    "RepositoryIndex": _repository_index,
    "RepositoryModelLoad": _repository_load,
    "RepositoryModelUnload": _repository_unload,
}

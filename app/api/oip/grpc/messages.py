"""The messages and methods of app/api/oip/grpc/inference.proto, which has the command that makes inference.binpb of it.

In a pool of their own: whatever else in the process speaks the protocol, such as Triton's client, has messages of the
same names in the common one. Needs protobuf, of jepa-serve[grpc].
"""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"

_described = Path(__file__).with_name("inference.binpb")
_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(_described.read_bytes()).file:
    _pool.Add(_file)

METHODS: list[Any] = [*_pool.FindServiceByName(SERVICE).methods]


def message(name: str) -> Any:
    """The class of that name."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))

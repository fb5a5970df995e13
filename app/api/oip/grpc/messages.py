"""The messages and methods of inference.proto, which also holds the command that compiles it to inference.binpb.

They have a descriptor pool of their own, because another user of the protocol in the same process, such as Triton's
client, registers messages of the same names in the default pool. Needs protobuf, from the extra `grpc`.
"""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"

_described = Path(__file__).with_name("inference.binpb")
FILES: list[Any] = [*FileDescriptorSet.FromString(_described.read_bytes()).file]
_pool = DescriptorPool()
for _file in FILES:
    _pool.Add(_file)

METHODS: list[Any] = [*_pool.FindServiceByName(SERVICE).methods]


def message(name: str) -> Any:
    """The class of the message with that name."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))

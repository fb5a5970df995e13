"""The messages of gRPC are those that are published."""

import re
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from app.api.oip.grpc.messages import METHODS, message
from tests.app.api.oip.grpc.conftest import PROTO


def fields(described: Any) -> dict[str, tuple[int, int, bool]]:
    """Number, type and whether it is a list, by name."""
    return {each.name: (each.number, each.type, each.is_repeated) for each in described.fields}


@pytest.mark.parametrize("name", re.findall(r"^message (\w+)", PROTO, re.MULTILINE))
def test_fields_have_the_numbers_that_are_published(name: str) -> None:
    published = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
    ours, theirs = message(name).DESCRIPTOR, published.DESCRIPTOR
    assert fields(ours).items() <= fields(theirs).items()
    for nested in ours.nested_types:
        assert fields(nested).items() <= fields(theirs.nested_types_by_name[nested.name]).items()
    for enum in (each.enum_type for each in ours.fields if each.type == FieldDescriptor.TYPE_ENUM):
        values = {each.name: each.number for each in model_config_pb2.DataType.DESCRIPTOR.values}
        assert {each.name: each.number for each in enum.values}.items() <= values.items()


def test_the_descriptor_that_is_loaded_is_that_of_the_proto_file() -> None:
    assert {each.name for each in METHODS} == set(re.findall(r"rpc (\w+)\(", PROTO))
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", PROTO, re.MULTILINE | re.DOTALL):
        written = re.findall(r"^ *(?:repeated )?(?:map<[^>]*>|[\w.]+) (\w+) = (\d+);", body, re.MULTILINE)
        described = message(name).DESCRIPTOR
        found = [(each.name, str(each.number)) for each in described.fields]
        for nested in described.nested_types:
            if not nested.GetOptions().map_entry:
                found += [(each.name, str(each.number)) for each in nested.fields]
        assert sorted(found) == sorted(written)

"""Large documents, parsed in pieces."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.documents import parse_document
from app.errors import ServiceError
from app.main import create_app
from app.rows import parse_json
from app.service import Service
from app.settings import Settings

pytestmark = pytest.mark.anyio

PIECE_BYTES = 32


@pytest.fixture
async def service(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr("app.api.documents.MAX_PIECE_BYTES", PIECE_BYTES)
    service: Service = create_app(Settings(models=models)).state.service
    service.open()
    yield service
    service.close()


numbers = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False, width=32)
rows = st.lists(numbers, max_size=30)
values = rows | st.lists(rows, max_size=8) | st.text(max_size=5) | numbers | st.none() | st.booleans()
members = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
documents = st.dictionaries(st.sampled_from(["features", "target_features", "inputs"]), members, max_size=3)
layouts = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}])


async def outcome(body: bytes, service: Service) -> Any:
    try:
        return await parse_document(body, service)
    except ServiceError as error:
        return error.slug


async def test_a_document_in_pieces_is_the_document(service: Service) -> None:
    drawn: list[bytes] = []

    @given(documents, layouts)
    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def draw(document: dict[str, Any], layout: dict[str, Any]) -> None:
        drawn.append(json.dumps(document, **layout).encode())

    draw()
    for body in drawn:
        assert await parse_document(body, service) == parse_json(body)


async def test_what_is_no_json_is_none_in_pieces_either(service: Service) -> None:
    right = json.dumps({"features": [[1, 2.5], [3, 4]] * 9, "hidden": ["own"]}).encode()
    for at in range(len(right)):
        for wrong in (right[:at] + right[at + 1 :], right[:at] + b"," + right[at:], right[:at] + b"]" + right[at:]):
            try:
                expected = parse_json(wrong)
            except ServiceError as error:
                expected = error.slug
            assert await outcome(wrong, service) == expected, wrong


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b'{"features":[' + b"0," * 10**6 + b"0]}", "too-many-rows"),
        (b'{"features":[' + b"[]," * 10**5 + b"[]]}", "too-many-rows"),
        (b'{"features":[' + b"{}," * 10**6 + b"{}]}", "invalid-input"),
        (b'{"hidden":["' + b"x," * 10**6 + b'"]}', "invalid-input"),
        (b"1]1," * 10**5, "malformed-body"),
        (b"x" * 10**6, "malformed-body"),
    ],
)
async def test_what_no_right_request_has_is_refused_before_it_is_parsed(
    service: Service, body: bytes, slug: str
) -> None:
    assert await outcome(body, service) == slug


async def test_numbers_that_json_does_not_know_are_found_where_they_are(service: Service) -> None:
    document = await parse_document(b'{"features":[[1,2],' + b"[1,NaN]," * 20 + b"[1e999,-Infinity]]}", service)
    assert str(document["features"][5]) == "[1.0, nan]"
    assert document["features"][-1] == [float("inf"), -float("inf")]

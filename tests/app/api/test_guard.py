import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.guard import Guard
from app.errors import InvalidInput, NotReady, ServiceError, ServiceFailed, Unauthorized
from app.main import create_app
from app.service import Service
from app.settings import Settings
from app.telemetry.request_context import current_request

KEY = "key-0123456789abcdef"
KNOWN = {b"x-api-key": KEY.encode()}


@pytest.fixture
def service(models: Path) -> Iterator[Service]:
    service: Service = create_app(Settings(models=models, api_keys=KEY)).state.service
    service.open()
    yield service
    service.close()


@pytest.fixture
def guard(service: Service) -> Guard:
    return Guard(service)


def counted(service: Service) -> dict[str, float]:
    """Status → requests of the route /test."""
    lines = service.telemetry.text().decode().splitlines()
    ours = (line for line in lines if line.startswith("jepa_http_requests_total") and 'route="/test"' in line)
    return {line.partition('status="')[2][:3]: float(line.rpartition(" ")[2]) for line in ours}


def in_flight(service: Service) -> bool:
    return b"jepa_http_requests_in_flight 0.0" not in service.telemetry.text()


def enter(guard: Guard, headers: dict[bytes, bytes], error: BaseException | None = None) -> None:
    route = guard.telemetry.route("POST", "/test")
    with guard.visit(headers, "POST", "/test", 0.0, route=route) as visit:
        assert current_request.get() is visit.context
        if error is not None:
            raise error


def test_what_was_answered_is_counted_once(guard: Guard, service: Service) -> None:
    enter(guard, KNOWN)
    assert counted(service) == {"200": 1}
    assert not in_flight(service)
    assert current_request.get() is None


@pytest.mark.parametrize("headers", [{}, {b"x-api-key": b"another-key-0123456789"}])
def test_who_has_no_key_does_not_get_in_and_is_counted_once(
    guard: Guard, service: Service, headers: dict[bytes, bytes]
) -> None:
    with pytest.raises(Unauthorized), guard.visit(headers, "POST", "/test", 0.0):
        pytest.fail("got in")
    assert b'jepa_http_requests_total{method="other",route="unmatched",status="401"} 1.0' in service.telemetry.text()
    assert b'jepa_requests_rejected_total{reason="unauthorized"} 1.0' in service.telemetry.text()
    assert not in_flight(service)
    assert current_request.get() is None


@pytest.mark.parametrize(
    ("raised", "leaves", "status"),
    [
        (InvalidInput((("x",), "x is wrong")), InvalidInput, "422"),
        (MemoryError(), NotReady, "503"),
        (ZeroDivisionError(), ServiceFailed, "500"),
    ],
)
def test_what_leaves_is_a_service_error_whatever_was_raised(
    guard: Guard, service: Service, raised: Exception, leaves: type[ServiceError], status: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        enter(guard, KNOWN, raised)
    assert type(caught.value) is leaves
    assert counted(service) == {status: 1}
    assert not in_flight(service)


def test_a_cancelled_request_counts_as_one_whose_client_left(guard: Guard, service: Service) -> None:
    with pytest.raises(asyncio.CancelledError):
        enter(guard, KNOWN, asyncio.CancelledError())
    assert counted(service) == {"499": 1}
    assert not in_flight(service)


def test_probes_need_no_key_and_are_not_counted(guard: Guard, service: Service) -> None:
    before = service.telemetry.text()
    for path in ("/livez", "/readyz", "/metrics", "/inference.GRPCInferenceService/ServerLive"):
        with guard.visit({}, "GET", path, 0.0):
            pass
    assert b"jepa_http_requests_total" in before
    assert counted(service) == {}
    assert not in_flight(service)

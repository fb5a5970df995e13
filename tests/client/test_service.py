from pathlib import Path
from typing import Any

import httpx
import pytest

from jepa_client.service import Service

URL = "http://127.0.0.1:8000"


def service(base_url: str = URL, **options: object) -> Service:
    given = {"timeout": 1.0, "api_key": None, "schema_hash": None, "stream": None, "retries": 2, **options}
    return Service(base_url, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "127.0.0.1", "", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://h:0"],
)
def test_an_address_that_is_none_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url is '.*'; it must be like http://127\.0\.0\.1:8000"):
        service(url)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e10, None, "5"])
def test_a_timeout_is_seconds_above_zero(timeout: object) -> None:
    with pytest.raises(ValueError, match=r"timeout is .*; it must be seconds above 0"):
        service(timeout=timeout)


def test_retries_are_not_negative() -> None:
    with pytest.raises(ValueError, match="retries is -1; it must be 0 or more"):
        service(retries=-1)


@pytest.mark.parametrize("name", ["api_key", "schema_hash", "stream"])
@pytest.mark.parametrize("text", ["secret\n", " secret", "sécret", "", b"secret", 7])
def test_what_a_header_cannot_carry_is_refused_and_not_repeated(name: str, text: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be printable ASCII .*\.strip\(\)") as refused:
        service(**{name: text})
    assert "cret" not in str(refused.value)


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(service(api_key="secret"))


@pytest.mark.parametrize(
    ("url", "proxies"),
    [
        (URL, False),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
        ("http://bot.localhost", False),
        ("http://10.0.0.7:8000", True),
        ("https://jepa.example", True),
    ],
)
def test_proxies_of_the_environment_are_for_other_machines_only(
    url: str, proxies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "10.0.0.1:3128")
    assert service(url).via == (httpx.URL("http://10.0.0.1:3128") if proxies else None)
    assert service(url, proxy="").via is None
    assert service(url, proxy="http://10.0.0.2:3128").via == httpx.URL("http://10.0.0.2:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.7,.example")
    assert service(url).via is None


@pytest.mark.parametrize(
    ("url", "spared", "others"),
    [
        ("http://10.1.2.3:8000", "corp.example, 10.0.0.0/8", "10.2.0.0/16"),
        ("http://10.1.2.3", "10.1.2.3", "10.1.2.30"),
        ("http://[fd00::7]:8000", "fd00::/8", "fe80::/10"),
        ("http://[fd00::7]:8000", "fd00:0::7", "fd00::8"),
        ("http://[fd00::7]:8000", "[fd00::7]", "10.0.0.0/8"),
        ("http://bots.corp.example:8000", ".corp.example", "corp.example.org"),
        ("http://bots.corp.example:8000", "corp.example:8000", "corp.example:9000"),
        ("http://bots.corp.example:8000", "*", "10.0.0.0/8,/8,,[,fd00::/999"),
    ],
)
def test_what_no_proxy_names_is_asked_directly(
    url: str, spared: str, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    monkeypatch.setenv("no_proxy", spared)
    assert service(url).via is None
    monkeypatch.setenv("no_proxy", others)
    assert service(url).via == httpx.URL("http://10.0.0.1:3128")


@pytest.mark.parametrize(("file", "reason"), [("missing.pem", "No such file"), ("empty.pem", "NO_CERTIFICATE")])
def test_a_file_that_holds_no_authority_is_refused(file: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match=rf"ca_file is '.*{file}': .*{reason}.*; it must be a PEM file"):
        service("https://jepa.example", ca_file=tmp_path / file)

"""How to reach the service: its address, the credentials, and how long to wait."""

from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from math import isfinite
from typing import Any

import httpx

MAX_CONNECTIONS = 100


@dataclass(frozen=True)
class Service:
    """Raises ValueError if an option is wrong. `timeout` is in seconds and covers a whole call, including retries."""

    # It may hold a password, and is therefore in no message.
    base_url: str = field(repr=False)
    timeout: float
    api_key: str | None = field(repr=False)
    schema_hash: str | None
    stream: str | None
    retries: int

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            shown = self.base_url.rpartition("@")[2]
            raise ValueError(f"base_url is {shown!r}; it must be like http://127.0.0.1:8000")
        if not (isfinite(self.timeout) and self.timeout > 0):
            raise ValueError(
                f"timeout is {self.timeout}; it must be seconds above 0, such as 0.016 for a frame at 60 Hz"
            )
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")
        for name in ("api_key", "schema_hash", "stream"):
            # The message must not contain the key, since messages end up in logs.
            text = getattr(self, name)
            if text is not None and not (text.isascii() and text.isprintable() and text.strip() == text != ""):
                raise ValueError(
                    f"{name} must be printable ASCII without spaces around it; one read from a file needs .strip()"
                )

    @cached_property
    def address(self) -> httpx.URL:
        """The base URL without name and password, for messages."""
        return httpx.URL(self.base_url).copy_with(userinfo=b"", query=None, fragment=None)

    def options(self) -> dict[str, Any]:
        """Arguments for httpx.Client and httpx.AsyncClient."""
        password = self._password()
        headers = {
            "Authorization": password or (self.api_key and f"Bearer {self.api_key}"),
            # Where a proxy asks for the password, the key goes by its other name.
            "X-API-Key": self.api_key if password else None,
            # Floats hardly compress, and what is compressed may be of any size.
            "Accept-Encoding": "identity",
            "X-Schema-Hash": self.schema_hash,
            "X-Stream-Id": self.stream,
        }
        return {
            # Without the password, since httpx logs the URL of each request.
            "base_url": self.address,
            "headers": {name: value for name, value in headers.items() if value is not None},
            # As many stay open as there may be, so that threads that share a client do not close each other's.
            "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            # A proxy from the environment cannot reach this machine's loopback.
            "trust_env": not self._is_loopback(),
        }

    @property
    def max_retries(self) -> int:
        """Zero in a stream, where a resent frame would replace a newer one."""
        return 0 if self.stream else self.retries

    def _password(self) -> str | None:
        """The header for a name and password in the base URL."""
        url = httpx.URL(self.base_url)
        return f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode()}" if url.userinfo else None

    def _is_loopback(self) -> bool:
        host = self.address.host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

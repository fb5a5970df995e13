"""How to reach the service: its address, the credentials, and how long to wait."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from math import isfinite
from typing import Any

import httpx


@dataclass(frozen=True)
class Service:
    """Raises ValueError if an option is wrong. `timeout` is in seconds and covers a whole call, including retries."""

    base_url: str
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
            raise ValueError(f"base_url is {self.base_url!r}; it must be like http://127.0.0.1:8000")
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

    def options(self) -> dict[str, Any]:
        """Arguments for httpx.Client and httpx.AsyncClient."""
        headers = {
            "Authorization": self.api_key and f"Bearer {self.api_key}",
            "X-Schema-Hash": self.schema_hash,
            "X-Stream-Id": self.stream,
        }
        return {
            "base_url": self.base_url,
            "headers": {name: value for name, value in headers.items() if value is not None},
            # A proxy from the environment cannot reach this machine's loopback.
            "trust_env": not self._is_loopback(),
        }

    @property
    def max_retries(self) -> int:
        """Zero in a stream, where a resent frame would replace a newer one."""
        return 0 if self.stream else self.retries

    def _is_loopback(self) -> bool:
        host = httpx.URL(self.base_url).host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

"""How to reach the service: its address and the way there, the credentials, whom to trust, and how long to wait."""

import ssl
from base64 import b64encode
from dataclasses import astuple, dataclass, field
from functools import cached_property
from numbers import Real
from os import PathLike, fspath
from typing import Any, Self

import httpx

from jepa_client.proxies import proxy_of_environment

MAX_CONNECTIONS = 100
MAX_PORT = 65535
# Some thirty years. Sockets take hardly more.
MAX_TIMEOUT_S = 1e9


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
    ca_file: str | PathLike[str] | None = None
    # It may hold a password too.
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        url = _parsed(self.base_url)
        if url.scheme not in ("http", "https") or not url.host:
            shown = self.base_url.rpartition("@")[2]
            raise ValueError(f"base_url is {shown!r}; it must be like http://127.0.0.1:8000")
        if not (isinstance(self.timeout, Real) and 0 < self.timeout <= MAX_TIMEOUT_S):
            raise ValueError(
                f"timeout is {self.timeout}; it must be seconds above 0, such as 0.016 for a frame at 60 Hz, and at "
                f"most {MAX_TIMEOUT_S:g}"
            )
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")
        for name in ("api_key", "schema_hash", "stream"):
            # The message must not contain the key, since messages end up in logs.
            text = getattr(self, name)
            if text is not None and not _is_header(text):
                raise ValueError(
                    f"{name} must be printable ASCII without spaces around it; one read from a file needs .strip()"
                )
        # Looked at now, so that a wrong one is noticed here.
        _ = self.via, self.trust

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        # Without what was looked up: in another process it may be found elsewhere, or cannot travel.
        return type(self), astuple(self)

    @cached_property
    def address(self) -> httpx.URL:
        """The base URL without name and password, for messages."""
        return httpx.URL(self.base_url).copy_with(userinfo=b"", query=None, fragment=None)

    @cached_property
    def via(self) -> httpx.URL | None:
        """The proxy on the way, with name and password if it has any: the one that was given, or else the environment's
        (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY); None where the service is asked directly."""
        given = proxy_of_environment(self.address) if self.proxy is None else self.proxy
        if not given:
            return None
        url = _parsed(given if "://" in given else f"http://{given}")
        if url.scheme != "http" or not url.host:
            shown = given.rpartition("@")[2]
            raise ValueError(f"the proxy is {shown!r}; it must be like http://10.0.0.1:3128, or proxy='' for none")
        return url

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """What the certificate of an https service is checked with: the authority in `ca_file` alone, or else those
        that this machine trusts (or SSL_CERT_FILE and SSL_CERT_DIR name)."""
        if self.address.scheme == "http":
            # Nobody, which takes no time.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is not None:
            try:
                return ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                raise ValueError(
                    f"ca_file is {fspath(self.ca_file)!r}: {error.strerror or error}; it must be a PEM file with the "
                    "certificate of the authority that signed the service's"
                ) from None
        paths = ssl.get_default_verify_paths()
        # Where the machine has no list, httpx brings one.
        return ssl.create_default_context() if paths.cafile or paths.capath else httpx.create_ssl_context()

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        password = basic(httpx.URL(self.base_url))
        headers = {
            "Authorization": password or (self.api_key and f"Bearer {self.api_key}"),
            # Where a proxy asks for the password, the key goes by its other name.
            "X-API-Key": self.api_key if password else None,
            # Floats hardly compress, and what is compressed may be of any size.
            "Accept-Encoding": "identity",
            "X-Schema-Hash": self.schema_hash,
            "X-Stream-Id": self.stream,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def options(self) -> dict[str, Any]:
        """Arguments for httpx.AsyncClient."""
        return {
            # Without the password, since httpx logs the URL of each request.
            "base_url": self.address,
            "headers": self.headers(),
            # As many stay open as there may be, so that tasks that share a client do not close each other's.
            "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            "verify": self.trust,
            "proxy": self.via,
            # The proxy was looked up there already.
            "trust_env": False,
        }

    @property
    def max_retries(self) -> int:
        """Zero in a stream, where a resent frame would replace a newer one."""
        return 0 if self.stream else self.retries


def _is_header(text: object) -> bool:
    """Whether a header can carry it as it is."""
    return isinstance(text, str) and text.isascii() and text.isprintable() and text.strip() == text != ""


def basic(url: httpx.URL) -> str | None:
    """The header for the name and password in a URL."""
    if not url.userinfo:
        return None
    return f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode()}"


def _parsed(url: str) -> httpx.URL:
    """An empty one where the text is none."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        return httpx.URL("")
    # Some libraries would take the rest of a port that is too large.
    return found if found.port is None or 0 < found.port <= MAX_PORT else httpx.URL("")

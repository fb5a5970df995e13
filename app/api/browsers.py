"""What browsers are let do: whose pages may change something, and under which names the service is known.

A page of any site may send requests to any address that its browser reaches, those of this machine among them. It
cannot read the answers, but what was asked for is done. And whoever owns a name may let it mean 127.0.0.1 once the page
is open (DNS rebinding): to the browser the service is then a part of that page's own site. Other clients send no
Origin, and their Host is the name that they were told to connect to.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from app.errors import ForeignOrigin, UnknownHost, cut
from app.settings import Settings

# What a browser says of a page that is the service's own, and of a user who typed the address.
OWN_SITES = frozenset((b"same-origin", b"none"))
# Names that were looked at are remembered, since every request of a connection has the same one.
MAX_REMEMBERED = 1024
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")


class Browsers:
    """The rules for one service."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(settings.allowed_host_names)
        self._listens_on_loopback = _is_loopback(settings.host)
        self._knows_names = bool(self._allowed) or self._listens_on_loopback
        self.knows = lru_cache(MAX_REMEMBERED)(self._knows)

    def check(self, headers: Mapping[bytes, bytes], *, changes: bool) -> None:
        """Raises UnknownHost for a name that is not the service's, and ForeignOrigin where a page of another site asks
        for something that `changes` the service or, as a WebSocket, gets around what keeps pages from reading."""
        host = headers.get(b"host")
        if host is not None and not self.knows(host):
            raise UnknownHost(
                f"this service is not known as {cut(host.decode('latin-1'))!a}; ask for localhost, or put that name "
                "into JEPA_ALLOWED_HOSTS"
            )
        if changes and (b"origin" in headers or b"sec-fetch-site" in headers):
            self._check_origin(headers, host)

    def _check_origin(self, headers: Mapping[bytes, bytes], host: bytes | None) -> None:
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site in OWN_SITES:
            return
        authority = (origin or b"").partition(b"://")[2].lower()
        # Browsers that do not name the site compare as they did before there was such a header.
        if site is None and host and authority == host.lower():
            return
        if authority and name_of(authority) in self._allowed:
            return
        raise ForeignOrigin(
            "a page of another origin may not change anything or open a stream here; let a proxy of its own origin "
            "pass this on, or put its host into JEPA_ALLOWED_HOSTS"
        )

    def _knows(self, host: bytes) -> bool:
        """Whether a Host names the service, as far as the service knows its names."""
        if not self._knows_names:
            return True
        name = name_of(host)
        if name is None:
            return False
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:
            # A stranger's name has a dot: others are looked up in lists of this machine and this network alone.
            is_loopback = f".{name.rstrip('.')}".endswith(".localhost")
            return is_loopback or name in self._allowed or "." not in name
        # An address cannot be made to mean another machine.
        return address.is_loopback or name in self._allowed or not self._listens_on_loopback


def name_of(host: bytes) -> str | None:
    """The name or address in a Host, in lower case and without the port; None where it is none."""
    found = HOST.fullmatch(host)
    return found[1].decode("latin-1").lower() if found else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"

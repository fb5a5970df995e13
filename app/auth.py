"""Who may ask: keys."""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

from app.errors import Unauthorized


class Keys:
    """Those that open the service; none at all leave it open."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Unauthorized unless `Authorization: Bearer KEY` or `X-API-Key: KEY` has one of them."""
        if not self._digests:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = headers.get(b"x-api-key", b"")
        if not given:
            raise Unauthorized("this service wants a key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        digest = sha256(given.strip()).digest()
        # Each is compared, and in constant time: how long it takes tells nothing.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthorized("the key is not one of this service's; it may have been replaced")

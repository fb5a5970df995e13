"""API keys."""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

from app.errors import Unauthorized


class Keys:
    """The keys that the service accepts; without any, every request is accepted."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Unauthorized unless `Authorization: Bearer KEY` or `X-API-Key: KEY` carries one of them."""
        if not self._digests:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = headers.get(b"x-api-key", b"")
        if not given:
            raise Unauthorized("this service wants a key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        digest = sha256(given.strip()).digest()
        # Every key is compared, each in constant time, so that the time it takes gives nothing away.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthorized("the key is not one of this service's; it may have been replaced")

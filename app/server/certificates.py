"""Whether the certificate and the key of HTTPS can be used, asked before the service starts."""

import ssl
from pathlib import Path


class Unusable(Exception):
    """Says which file is wrong, and what would be right."""


class _Locked(Exception):
    """The key wants a passphrase."""


def check_pair(certificate: Path, key: Path) -> None:
    """Raises Unusable unless the two files in PEM hold a certificate and its key, which anything may open at start."""

    def ask() -> str:
        # OpenSSL would ask at the terminal, where a service has none or nobody looks.
        raise _Locked

    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise Unusable(f"{file} cannot be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, ask)
    except _Locked:
        raise Unusable(
            f"{key} is locked by a passphrase, which nobody is there to type; unlock a copy that this user alone may "
            f"read: (umask 077; openssl pkey -in {key} -out unlocked.pem)"
        ) from None
    except ssl.SSLError as error:
        # The second is what OpenSSL says of a key of another kind, such as RSA's beside a certificate of a curve.
        if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise Unusable(f"{key} is not the key of {certificate}; give the two that were made together") from None
        raise Unusable(
            f"{certificate} and {key} are no certificate and its key in PEM: files that begin with -----BEGIN "
            f"CERTIFICATE----- and -----BEGIN PRIVATE KEY----- ({error.reason or error})"
        ) from None

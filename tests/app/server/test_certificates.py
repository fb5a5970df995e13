"""Certificates that cannot be used stop the start with a sentence."""

import subprocess
from pathlib import Path

import pytest

from app.server.certificates import Unusable, check_pair
from tests.cli.test_serve import jepa
from tests.support.certificates import certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    pair = certificate(folder)
    locked, other, of_rsa = folder / "locked.pem", folder / "other.pem", folder / "rsa.pem"
    openssl = ["openssl", "pkey", "-in", str(pair[1]), "-out", str(locked), "-aes256", "-passout", "pass:sesame"]
    subprocess.run(openssl, check=True, capture_output=True)
    curve = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(other)]
    subprocess.run(curve, check=True, capture_output=True)
    subprocess.run(["openssl", "genrsa", "-out", str(of_rsa), "2048"], check=True, capture_output=True)
    (folder / "text.pem").write_text("no PEM at all\n")
    names = ("text.pem", "missing.pem")
    return {"cert": pair[0], "key": pair[1], "locked": locked, "other": other, "rsa": of_rsa} | {
        name.partition(".")[0]: folder / name for name in names
    }


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("cert", "locked", "locked.pem is locked by a passphrase, which nobody is there to type; unlock a copy"),
        ("cert", "other", "other.pem is not the key of "),
        ("cert", "rsa", "rsa.pem is not the key of "),
        ("cert", "text", "no certificate and its key in PEM"),
        ("text", "key", "no certificate and its key in PEM"),
        ("key", "cert", "no certificate and its key in PEM"),
        ("cert", "missing", "missing.pem cannot be read: No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(files: dict[str, Path], cert: str, key: str, message: str) -> None:
    with pytest.raises(Unusable) as refused:
        check_pair(files[cert], files[key])
    assert message in str(refused.value)


def test_a_right_pair_passes(files: dict[str, Path]) -> None:
    check_pair(files["cert"], files["key"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_locked_key_stops_the_start_with_one_sentence(models: Path, files: dict[str, Path], workers: str) -> None:
    flags = ["--tls-cert-file", str(files["cert"]), "--tls-key-file", str(files["locked"]), "--workers", workers]
    done = jepa("serve", "--models", str(models), "--port", "0", *flags)
    assert done.returncode == 1
    assert done.stderr.startswith(f"jepa serve: {files['locked']} is locked by a passphrase")
    assert done.stderr.count("\n") == 1

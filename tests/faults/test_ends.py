"""The end of a service whose peers do not hang up."""

import ssl
import time
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.support.certificates import certificate
from tests.support.load import Load
from tests.support.peers import Peers
from tests.support.serving import Server


@pytest.mark.parametrize(("workers", "scheme"), [(1, "http"), (2, "https")])
def test_no_mixture_of_idle_slow_and_hostile_peers_holds_up_the_end(
    models: Path, tmp_path: Path, workers: int, scheme: str, survived: Survived
) -> None:
    trusted = None
    # The end of what was let in may take longer than this test may.
    flags = ["--models", str(models), "--workers", str(workers), "--grpc-port", "0", "--graceful-timeout-s", "60"]
    if scheme == "https":
        certified, key = certificate(tmp_path)
        trusted = ssl.create_default_context(cafile=str(certified))
        flags += ["--tls-cert-file", str(certified), "--tls-key-file", str(key)]
    with (
        Server(*flags, verify=trusted or True) as server,
        Peers(server, trusted=trusted) as peers,
        Load(server, trusted=trusted) as load,
    ):
        began = time.monotonic()
        assert server.stop() == 0
        ended_s = time.monotonic() - began
        assert all(b"the service is stopping" in told for told in peers.told("gRPC: an idle stream"))
        assert all(b"the service is stopping" in told for told in peers.told("HTTP: a WebSocket"))
    assert "Traceback" not in server.log
    assert load.refused.keys() <= {503}
    assert load.lost == load.cut == 0
    processes = f"{workers} process{'es' * (workers > 1)}"
    note = f"exit code 0 after {ended_s:.1f} s; {peers.count} of them"
    survived(f"SIGTERM with peers that stay, {scheme}, {processes}", load, note=note)

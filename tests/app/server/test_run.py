"""How the service starts."""

import os
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.changes import until
from tests.support.forker import Fork

# As by `jepa serve <&- >&- 2>&-`, which scripts that start a service write.
WITHOUT_STANDARD_FILES = """
import os
for number in (0, 1, 2):
    os.close(number)
from cli.main import main
main()
"""


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc, which says what a process has open")
def test_who_is_started_without_standard_files_writes_its_log_to_no_client(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    flags = ["serve", "--models", str(models), "--port", str(port), "--workers", "1"]
    process = Fork(WITHOUT_STANDARD_FILES, flags, os.environ | {"JEPA_ACCESS_LOG": "true"})
    with process.stderr, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            until(lambda: process.poll() is not None or is_ready(client))
            opened = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 1, 2)}
            assert opened == {os.devnull}
            # Each has a line in the log.
            assert [client.get("/models").status_code for _ in range(3)] == [200] * 3
        finally:
            process.send_signal(15)
            code = process.wait(20)
    assert code == 0

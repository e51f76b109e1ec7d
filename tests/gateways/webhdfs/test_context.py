"""What an admitted caller may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.gateways.settings import GatewaySettings
from headrace.stores.file_account import FileAccountStore
from support.gateway import gateway
from support.webhdfs import TRUSTING, Client


@pytest.mark.parametrize(
    ("method", "op"),
    [("GET", "LISTSTATUS"), ("GET", "GETFILESTATUS"), ("GET", "OPEN"), ("PUT", "CREATE"), ("DELETE", "DELETE")],
)
def test_a_mount_with_access_control_lists_is_not_reached_past_them(tmp_path: Path, method: str, op: str) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "private").write_bytes(b"someone's")
    settings = GatewaySettings(webhdfs=TRUSTING)
    with gateway({"/": FileAccountStore(str(tmp_path))}, settings=settings, writable=True, acls=True) as running:
        told = Client(running.host, running.port).ask(method, "/bucket/private", op)
    assert (told.status, told.exception) == (403, "AccessControlException")
    assert "through S3 alone" in told.message
    assert (tmp_path / "bucket" / "private").read_bytes() == b"someone's"

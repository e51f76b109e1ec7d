"""`kill -9` under a load of writes in every mode: what was acknowledged is never lost, older, or half there.

`HEADRACE_KILLS` says how many rounds there are in all (100 unless it is set); each kills at least one process. A seed is
printed with a failure, and `HEADRACE_SEED` repeats it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace.model.mounts import WriteMode
from support.kills import Register, kill_under_load, verify
from support.node import RunningNode, start_node, stop_node
from support.servers import S3Server

ROUNDS = int(os.environ.get("HEADRACE_KILLS", "100"))
SEED = int(os.environ.get("HEADRACE_SEED", str(int(time.time()))))
MODES = (WriteMode.THROUGH, WriteMode.BACK, WriteMode.SCRATCH)
_NODE_EVERY = 4
_KEYS = ("a", "b/c", "b/d")


def registers_of(*, late: bool) -> list[Register]:
    """Two writers a mode, each with keys of its own. `late`: what is written through may arrive late."""
    return [
        Register(f"/{mode}/{writer}/{key}", late=late and mode is WriteMode.THROUGH)
        for key in _KEYS
        for mode in MODES
        for writer in (0, 1)
    ]


def killed_often(
    folder: Path, config: str, registers: Sequence[Register], rounds: int, at_store: Callable[[str], bytes | None]
) -> None:
    """Rounds of kills, each looked at through the node; at the end what the stores hold is looked at as well."""
    kills = 0
    node = start_node(folder, config, processes=2)
    try:
        for number in range(rounds):
            whole_node = number % _NODE_EVERY == _NODE_EVERY - 1
            kills += kill_under_load(node, registers, whole_node=whole_node, seed=SEED + number)
            if whole_node:
                node = start_node(folder, config, processes=2)
            verify(node, registers)
        _stored(node, registers, at_store)
    except AssertionError as error:
        error.add_note(f"HEADRACE_SEED={SEED}, {kills} processes killed")
        raise
    finally:
        stop_node(node)
    written = sum(register.acknowledged for register in registers)
    print(f"{kills} processes killed in {rounds} rounds, {written} writes acknowledged, seed {SEED}")
    assert kills >= rounds
    assert all(register.acknowledged for register in registers)


def _stored(node: RunningNode, registers: Sequence[Register], at_store: Callable[[str], bytes | None]) -> None:
    for mode in (WriteMode.THROUGH, WriteMode.BACK):
        node.cli("sync", "--wait", "--timeout", "50s", f"/{mode}")
    for register in registers:
        seen = at_store(register.path)
        if register.path.startswith(f"/{WriteMode.SCRATCH}/"):
            assert seen is None, f"{register.path} left the node"
        else:
            register.check(seen)


@pytest.mark.slow
@pytest.mark.timeout(max(120, 4 * ROUNDS))
@pytest.mark.parametrize("part", range(4))
def test_nothing_acknowledged_is_lost_over_directories(tmp_path: Path, part: int) -> None:
    rounds = (ROUNDS * 9 // 10 + 3 - part) // 4
    config = ""
    for mode in MODES:
        (tmp_path / mode).mkdir()
        config += f'[[mount]]\npath = "/{mode}"\nstore = "file://{tmp_path}/{mode}"\nfreshness = "1h"\nwrite = "{mode}"\n\n'

    def at_store(path: str) -> bytes | None:
        file = tmp_path / path[1:]
        return file.read_bytes() if file.exists() else None

    killed_often(tmp_path / "node", config, registers_of(late=False), rounds, at_store)


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(max(120, 4 * ROUNDS))
def test_nothing_acknowledged_is_lost_over_a_real_store(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    bucket = f"kills-{os.getpid()}"
    seaweedfs_server.make_bucket(bucket)
    store = seaweedfs_server.client()
    config = ""
    for mode in MODES:
        config += (
            f'[[mount]]\npath = "/{mode}"\nstore = "s3://{bucket}/{mode}"\nendpoint = "{seaweedfs_server.endpoint}"\n'
            f'credentials = "env:WEED"\nfreshness = "1h"\nwrite = "{mode}"\n\n'
        )

    def at_store(path: str) -> bytes | None:
        try:
            body: bytes = store.get_object(Bucket=bucket, Key=path[1:])["Body"].read()
        except store.exceptions.NoSuchKey:
            return None
        return body

    environ = {"WEED_ACCESS_KEY_ID": seaweedfs_server.access_key, "WEED_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        killed_often(tmp_path / "node", config, registers_of(late=True), max(1, ROUNDS // 10), at_store)

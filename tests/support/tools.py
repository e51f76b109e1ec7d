"""Command line clients of S3 with the same few verbs, each as its users run it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from support.lakes import REGION, Side
from support.processes import require

PART_BYTES = 5 << 20
"""Larger files are sent in parts of this size."""


class Tool(Protocol):
    """Places are `bucket/prefix`; folders are local."""

    def push(self, folder: Path, place: str) -> None:
        """Copy what is in `folder`."""

    def pull(self, place: str, folder: Path) -> None:
        """Copy what is below `place`."""

    def mirror(self, folder: Path, place: str) -> str:
        """Make `place` equal to `folder`, removals included. Says what was done."""

    def copy(self, place: str, other: str) -> None:
        """Copy one object at the server."""

    def remove(self, place: str) -> None:
        """Remove all that is below `place`."""


def run_tool(program: str, *arguments: str, environ: Mapping[str, str], home: Path, timeout_s: float = 20) -> str:
    """A program with no settings but those given. What it printed; fails with it unless it ends well."""
    inherited = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
    done = subprocess.run(
        [require(program), *arguments], env={**inherited, "HOME": str(home), "LC_ALL": "C.UTF-8", **environ},
        capture_output=True, text=True, timeout=timeout_s, cwd=home, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{program} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class Rclone:
    """rclone, which compares by size, time and MD5."""

    def __init__(self, side: Side, home: Path) -> None:
        settings = {
            "TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": side.key_id, "SECRET_ACCESS_KEY": side.secret, "REGION": REGION,
            "ENDPOINT": side.endpoint,
        }  # fmt: skip
        settings |= dict.fromkeys(("UPLOAD_CUTOFF", "CHUNK_SIZE", "COPY_CUTOFF"), f"{PART_BYTES}B")
        self._environ = {f"RCLONE_CONFIG_LAKE_{name}": value for name, value in settings.items()}
        self._environ["RCLONE_CONFIG"] = str(home / "rclone.conf")
        self._home = home

    def run(self, *arguments: str) -> str:
        once = ("--retries", "1", "--low-level-retries", "1")
        return run_tool("rclone", "-v", *once, *arguments, environ=self._environ, home=self._home)

    def push(self, folder: Path, place: str) -> None:
        self.run("copy", str(folder), f"lake:{place}")
        self.check(folder, place)

    def pull(self, place: str, folder: Path) -> None:
        self.run("copy", f"lake:{place}", str(folder))

    def mirror(self, folder: Path, place: str) -> str:
        done = self.run("sync", str(folder), f"lake:{place}")
        self.check(folder, place)
        return done

    def copy(self, place: str, other: str) -> None:
        self.run("copyto", f"lake:{place}", f"lake:{other}")

    def remove(self, place: str) -> None:
        self.run("purge", f"lake:{place}")

    def check(self, folder: Path, place: str) -> None:
        """By rclone's own comparison: by hash, and by bytes."""
        self.run("check", str(folder), f"lake:{place}")
        self.run("check", "--download", str(folder), f"lake:{place}")


class S3cmd:
    """s3cmd, which compares by size and MD5."""

    def __init__(self, side: Side, home: Path) -> None:
        host, part_mb = side.endpoint.partition("://")[2], PART_BYTES >> 20
        settings = {
            "access_key": side.key_id, "secret_key": side.secret, "host_base": host, "host_bucket": host, "use_https": False,
            "bucket_location": REGION, "multipart_chunk_size_mb": part_mb, "multipart_copy_chunk_size_mb": part_mb,
        }  # fmt: skip
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (home / "s3cfg").write_text("\n".join(["[default]", *lines, ""]))
        self._home = home

    def run(self, *arguments: str) -> str:
        return run_tool("s3cmd", "-c", "s3cfg", "--no-progress", "--max-retries=1", *arguments, environ={}, home=self._home)

    def push(self, folder: Path, place: str) -> None:
        self.run("put", "--recursive", f"{folder}/", f"s3://{place}/")

    def pull(self, place: str, folder: Path) -> None:
        self.run("get", "--recursive", f"s3://{place}/", f"{folder}/")

    def mirror(self, folder: Path, place: str) -> str:
        return self.run("sync", "--delete-removed", f"{folder}/", f"s3://{place}/")

    def copy(self, place: str, other: str) -> None:
        self.run("cp", f"s3://{place}", f"s3://{other}")

    def remove(self, place: str) -> None:
        self.run("del", "--recursive", f"s3://{place}/")


class AwsCli:
    """The AWS CLI, which compares by size and time."""

    def __init__(self, side: Side, home: Path) -> None:
        lines = ("[default]", "s3 =", f"  multipart_threshold = {PART_BYTES}", f"  multipart_chunksize = {PART_BYTES}")
        (home / "awscfg").write_text("\n".join([*lines, "  addressing_style = path", ""]))
        self._environ = {**side.environ(), "AWS_CONFIG_FILE": str(home / "awscfg"), "AWS_MAX_ATTEMPTS": "1"}
        self._home = home

    def run(self, *arguments: str) -> str:
        return run_tool("aws", *arguments, environ=self._environ, home=self._home)

    def push(self, folder: Path, place: str) -> None:
        self.run("s3", "cp", "--recursive", "--no-progress", str(folder), f"s3://{place}")

    def pull(self, place: str, folder: Path) -> None:
        self.run("s3", "cp", "--recursive", "--no-progress", f"s3://{place}", str(folder))

    def mirror(self, folder: Path, place: str) -> str:
        return self.run("s3", "sync", "--delete", "--no-progress", str(folder), f"s3://{place}")

    def copy(self, place: str, other: str) -> None:
        self.run("s3", "cp", "--no-progress", f"s3://{place}", f"s3://{other}")

    def remove(self, place: str) -> None:
        self.run("s3", "rm", "--recursive", f"s3://{place}")

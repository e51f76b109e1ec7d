"""Hadoop's own client and the Python client `hdfs`, unmodified, through a real node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdfs import InsecureClient
from hdfs.util import HdfsError

from headrace.gateways.webhdfs.checksum import BlockSums
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from support.gateway import WarmStore, signed_request
from support.hdfs import HdfsServer, java_command
from support.node import RunningNode, running_node
from support.processes import require
from support.webhdfs import USER, FsShell, webhdfs

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
TEXT = b"a line\n" * 5000
_DIFFERENT = {
    "create below file": (
        "ParentNotDirectoryException",
        "RemoteException",
    ),  # the same, which this release's client does not know
    "rename below file": ("false", "RemoteException"),
    "mkdirs below file": ("ParentNotDirectoryException", "FileAlreadyExistsException"),  # as Hadoop 3 says it
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    root = tmp_path_factory.mktemp("store")
    config = (
        '[gateway.webhdfs]\ntrust_user_name_from = ["127.0.0.1"]\n\n'
        f'[[mount]]\npath = "/sales"\nstore = "file://{root}"\nwrite = "through"\n\n'
        f'[[mount]]\npath = "/open"\nstore = "file://{root}"\nanonymous = true\n'
    )
    with running_node(tmp_path_factory.mktemp("home"), config, processes=2) as running:
        yield running


@pytest.mark.slow
def test_fs_shell_lists_reads_and_writes(node: RunningNode, tmp_path: Path) -> None:
    shell = FsShell(tmp_path / "client", node.data)
    local = tmp_path / "local.txt"
    local.write_bytes(TEXT)
    shell.run("-mkdir", "-p", "/sales/new/deep")
    shell.run("-put", str(local), "/sales/new/deep/a.txt")
    shell.run("-touchz", "/sales/new/empty")
    listed = shell.run("-ls", "-R", "/sales/new").splitlines()
    assert [(line[0], int(line.split()[4]), line.split()[-1]) for line in listed] == [
        ("d", 0, "/sales/new/deep"), ("-", len(TEXT), "/sales/new/deep/a.txt"), ("-", 0, "/sales/new/empty"),
    ]  # fmt: skip
    assert shell.run("-cat", "/sales/new/deep/a.txt").encode() == TEXT
    assert shell.run("-text", "/sales/new/deep/a.txt").encode() == TEXT


@pytest.mark.slow
def test_fs_shell_moves_appends_describes_and_removes(node: RunningNode, tmp_path: Path) -> None:
    shell = FsShell(tmp_path / "client", node.data)
    local = tmp_path / "local.txt"
    local.write_bytes(TEXT)
    InsecureClient(node.data_url, user=USER).write("/sales/in/deep/a.txt", TEXT)
    shell.run("-mv", "/sales/in/deep/a.txt", "/sales/in/b.txt")
    shell.run("-appendToFile", str(local), "/sales/in/b.txt")
    shell.run("-get", "/sales/in/b.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_bytes() == TEXT * 2
    sums = BlockSums(128 << 20)
    sums.add(TEXT * 2)
    assert shell.run("-checksum", "/sales/in/b.txt").split() == ["/sales/in/b.txt", sums.algorithm, sums.digest().hex()]
    assert shell.run("-du", "-s", "/sales/in").split()[0] == str(len(TEXT) * 2)
    assert shell.run("-count", "/sales/in").split() == ["2", "1", str(len(TEXT) * 2), "/sales/in"]
    shell.run("-chmod", "600", "/sales/in/b.txt")
    shell.run("-setfattr", "-n", "user.note", "-v", "kept", "/sales/in/b.txt")
    assert 'user.note="kept"' in shell.run("-getfattr", "-d", "/sales/in/b.txt")
    assert shell.run("-stat", "%n %b %F", "/sales/in/b.txt").strip() == f"b.txt {len(TEXT) * 2} regular file"
    shell.run("-rm", "-r", "/sales/in")
    assert "No such file" in shell.run("-ls", "/sales/in", ok=False)


@pytest.mark.slow
def test_fs_shell_is_told_what_to_set_when_its_name_counts_for_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "f").write_bytes(b"x")
    config = (
        f'[[mount]]\npath = "/shut"\nstore = "file://{store}"\nwrite = "through"\n\n'
        f'[[mount]]\npath = "/open"\nstore = "file://{store}"\nanonymous = true\n'
    )
    with running_node(tmp_path / "home", config, processes=1) as node:
        shell = FsShell(tmp_path / "client", node.data)
        assert shell.run("-cat", "/open/f") == "x"
        complaint = shell.run("-cat", "/shut/f", ok=False)
        assert 'trust_user_name_from = ["127.0.0.1"]' in complaint
        assert "Authentication required" in complaint


@pytest.mark.slow
def test_fs_shell_is_whom_its_delegation_token_names(tmp_path: Path) -> None:
    store = WarmStore()
    store.put("f", b"for the bearer")
    with webhdfs({"/data": store}, settings=WebHdfsSettings()) as (running, client):
        asked = signed_request(running.endpoint, "GET", "/webhdfs/v1/?op=GETDELEGATIONTOKEN&renewer=yarn")
        token = json.loads(running.talk(asked)[0].body)["Token"]["urlString"]
        shell = FsShell(tmp_path / "client", f"{client.host}:{client.port}", token=token)
        assert shell.run("-cat", "/data/f") == "for the bearer"
        cancelled = signed_request(running.endpoint, "PUT", f"/webhdfs/v1/?op=CANCELDELEGATIONTOKEN&token={token}")
        assert running.talk(cancelled)[0].status == 200
        assert "cancelled" in shell.run("-cat", "/data/f", ok=False)


@pytest.mark.slow
def test_hadoops_file_system_behaves_as_over_hdfs(node: RunningNode, hdfs_server: HdfsServer, tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("Java runs a source file only where its compiler is installed")
    (tmp_path / "conf").mkdir()
    _, *options = java_command(require("java"), tmp_path)

    def behaviours(place: str, root: str) -> dict[str, str]:
        command = [require("java"), *options, str(Path(__file__).parent / "Behaviours.java"), f"webhdfs://{place}", root]
        environ = os.environ | {"HADOOP_USER_NAME": "root"}
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(line.split(": ", 1) for line in done.stdout.splitlines())

    ours, theirs = behaviours(node.data, "/sales/behaviours"), behaviours(hdfs_server.web, "/behaviours")
    assert len(theirs) > 50
    # HDFS may still hold the lease of the append before; here there are none.
    assert (ours.pop("append"), theirs.pop("append")) in (
        ("one two three", "one two three"), ("one two three", "AlreadyBeingCreatedException"),
    )  # fmt: skip
    assert {what: (said, theirs[what]) for what, said in ours.items() if said != theirs[what]} == _DIFFERENT


@pytest.mark.slow
def test_a_file_and_its_copy_in_hdfs_have_one_checksum(hdfs_server: HdfsServer) -> None:
    """HDFS's own answer, for files of no, one and several of its blocks (4 MiB)."""
    for blocks, extra in ((0, 0), (0, 700), (1, 0), (1, 1), (2, 513), (4, 5)):
        data = os.urandom(blocks * 4194304 + extra)
        hdfs_server.put(f"/sums/{blocks}-{extra}", data)
        answer = json.loads(hdfs_server.request("GET", f"/sums/{blocks}-{extra}", op="GETFILECHECKSUM"))["FileChecksum"]
        sums = BlockSums(4194304)
        sums.add(data)
        assert (sums.algorithm, sums.digest().hex()) == (answer["algorithm"], answer["bytes"][: answer["length"] * 2])


def test_the_python_client_hdfs_reads_and_writes(node: RunningNode, tmp_path: Path) -> None:
    client = InsecureClient(node.data_url, user=USER, root="/sales")
    client.makedirs("py/deep", permission="750")
    client.write("py/a.txt", TEXT)
    with client.write("py/b.txt", overwrite=True, encoding="utf-8") as writer:
        for number in range(1000):
            writer.write(f"{number}\n")
    client.write("py/b.txt", "more\n", append=True, encoding="utf-8")
    with client.read("py/b.txt", encoding="utf-8", delimiter="\n") as lines:
        assert list(lines)[-2:] == ["more", ""]
    with client.read("py/a.txt", offset=7, length=7) as reader:
        assert reader.read() == TEXT[7:14]
    assert client.list("py") == ["a.txt", "b.txt", "deep"]
    assert client.status("py/a.txt")["length"] == len(TEXT)
    assert client.content("py")["fileCount"] == 2
    assert client.checksum("py/a.txt")["algorithm"] == "MD5-of-0MD5-of-512CRC32C"
    with pytest.raises(HdfsError, match="already exists"):
        client.write("py/a.txt", b"other")
    client.rename("py/a.txt", "py/deep/c.txt")
    client.set_permission("py/deep/c.txt", permission="600")
    client.set_times("py/deep/c.txt", modification_time=1234567890000)
    assert client.status("py/deep/c.txt")["modificationTime"] == 1234567890000
    client.download("py", str(tmp_path / "down"))
    assert (tmp_path / "down" / "deep" / "c.txt").read_bytes() == TEXT
    client.upload("up", str(tmp_path / "down"))
    assert [(path, sorted(files)) for path, _, files in client.walk("up")] == [
        ("/sales/up", ["b.txt"]),
        ("/sales/up/deep", ["c.txt"]),
    ]
    with pytest.raises(HdfsError, match="not empty"):
        client.delete("up")
    assert client.delete("up", recursive=True)
    assert client.status("up", strict=False) is None
    for process in range(20):  # every process of the node shows every write
        client.write(f"py/{process}", b"x", overwrite=True)
        assert client.status(f"py/{process}")["length"] == 1


def test_the_curl_lines_of_the_how_to_page_do_what_they_say(node: RunningNode, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "webhdfs.md").read_text()
    InsecureClient(node.data_url, user=USER).write("/sales/reports/2026.csv", b"region\n", overwrite=True)
    lines = re.findall(r"^\$ curl (.*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        command = "curl -sS -f " + line.replace("127.0.0.1:9400", node.data)
        shown = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0, (line, shown.stderr)
        assert "region" in shown.stdout or "2026.csv" in shown.stdout


@pytest.mark.slow
def test_the_hadoop_lines_of_the_how_to_page_do_what_they_say(node: RunningNode, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "webhdfs.md").read_text()
    shell = FsShell(tmp_path / "client", node.data)
    (tmp_path / "client" / "report.csv").write_text("a,b\n")
    lines = re.findall(r"^\$ hadoop fs (.*)$", page, re.MULTILINE)
    assert lines
    for line in lines:
        shell.run(*line.replace("127.0.0.1:9400", node.data).split())

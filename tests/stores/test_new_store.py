"""The store that `docs/how-to/new-store.md` shows is found by its entry point, passes the suite, and is mounted by command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.node import running_node

pytestmark = pytest.mark.servers

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "new-store.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `sys.path` that holds the package as an installer lays it down."""
    place = tmp_path_factory.mktemp("site")
    project = tomllib.loads(_block("toml"))["project"]
    (place / "headrace_zip.py").write_text(_block("python"))
    described = place / f"headrace_zip-{project['version']}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items()) for group, found in points.items()]
    (described / "entry_points.txt").write_text("\n".join(lines))
    return place


def _block(language: str) -> str:
    (found,) = re.findall(rf"^```{re.escape(language)}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_store_is_about_sixty_lines_and_passes_the_suite(installed: Path, tmp_path: Path) -> None:
    assert len([line for line in _block("python").splitlines() if line.strip()]) < 75
    (tmp_path / "test_zip.py").write_text(_block('python title="test_zip.py"'))
    settings = ("asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function", "filterwarnings = error")
    (tmp_path / "pytest.ini").write_text("\n".join(("[pytest]", *settings)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "test_zip.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\b1\d\d passed", done.stdout)


def test_it_is_mounted_by_command_on_a_running_node(installed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("2026/a.csv", "a,b\n1,2\n")
    with running_node(tmp_path / "node", "", processes=1, environ={"PYTHONPATH": str(installed)}) as node:
        node.cli("mount", "add", "/archive", f"zip://{tmp_path}/archive.zip")
        assert node.cli("cat", "/archive/2026/a.csv").stdout == "a,b\n1,2\n"
        refused = node.cli("mount", "add", "/other", "zip://relative", check=False)
        assert (refused.returncode, "absolute path of an archive" in refused.stderr) == (2, True)
        unknown = node.cli("mount", "add", "/other", "zap:///x", check=False)
        assert "zip://" in unknown.stderr

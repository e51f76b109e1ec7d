"""Programs that people run on a directory, unchanged: a build, an installation, a backup, a checked random writer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fuse_mount import FuseMount, mounted, require_fuse

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuseMount]:
    require_fuse()
    store = tmp_path_factory.mktemp("store")
    config = f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nwrite = "through"\nfreshness = "1s"\n'
    with mounted(tmp_path_factory.mktemp("fuse"), config, "--allow-other") as mount:
        yield mount


@pytest.fixture
def here(mount: FuseMount, request: pytest.FixtureRequest) -> Path:
    directory = mount.data / request.node.name.replace("[", "-").rstrip("]")
    directory.mkdir()
    return directory


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    merged = {**os.environ, **(env or {})}
    done = subprocess.run(words, cwd=cwd, env=merged, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_c_project_is_cloned_and_built_with_make(here: Path, tmp_path: Path) -> None:
    needs("cc")
    needs("make")
    origin = tmp_path / "origin"
    origin.mkdir()
    names = [f"part{number}" for number in range(12)]
    for number, name in enumerate(names):
        (origin / f"{name}.c").write_text(f'#include "all.h"\nint {name}(void) {{ return {number}; }}\n')
    (origin / "all.h").write_text("".join(f"int {name}(void);\n" for name in names))
    calls = " + ".join(f"{name}()" for name in names)
    (origin / "main.c").write_text(
        f'#include <stdio.h>\n#include "all.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    objects = " ".join(f"{name}.o" for name in names)
    rules = f"sum: libparts.a main.o\n\tcc -o $@ main.o -L. -lparts\nlibparts.a: {objects}\n\tar rc $@ $^\n"
    (origin / "Makefile").write_text(rules)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    run(*git, "init", "-q", cwd=origin)
    run(*git, "add", ".", cwd=origin)
    run(*git, "commit", "-q", "-m", "one", cwd=origin)
    run("git", "clone", "-q", origin, here / "clone")
    run("make", "-j2", cwd=here / "clone")
    assert run(here / "clone/sum") == f"{sum(range(12))}\n"
    assert "up to date" in run("make", cwd=here / "clone")  # times tell what is newer
    (here / "clone/part3.c").write_text('#include "all.h"\nint part3(void) { return 1000; }\n')
    run("make", cwd=here / "clone")
    assert run(here / "clone/sum") == f"{sum(range(12)) - 3 + 1000}\n"


def test_packages_are_installed_into_it_and_imported_from_it(here: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "lots-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lots/__init__.py", "")
        for number in range(60):
            archive.writestr(f"lots/m{number}.py", f"VALUE = {number}\n")
        archive.writestr("lots-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: lots\nVersion: 1\n")
        archive.writestr("lots-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("lots-1.dist-info/RECORD", "")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "-t", here / "site", wheel)
    said = run(sys.executable, "-c", "import lots.m42; print(lots.m42.VALUE)", env={"PYTHONPATH": str(here / "site")})
    assert said == "42\n"


def test_a_backup_is_made_into_it_checked_and_restored(here: Path, tmp_path: Path) -> None:
    borg = needs("borg")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"f{number}").write_bytes(os.urandom(number * 199))
    env = {
        "BORG_BASE_DIR": str(tmp_path / "borg"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }
    run(borg, "init", "--encryption=none", here / "repo", env=env)
    run(borg, "create", f"{here}/repo::one", ".", cwd=source, env=env)
    (source / "f7").write_bytes(b"changed")
    run(borg, "create", f"{here}/repo::two", ".", cwd=source, env=env)
    run(borg, "delete", f"{here}/repo::one", env=env)
    run(borg, "compact", here / "repo", env=env)
    run(borg, "check", "--verify-data", here / "repo", env=env)
    (here / "restored").mkdir()
    run(borg, "extract", f"{here}/repo::two", cwd=here / "restored", env=env)
    run("diff", "-r", source, here / "restored")


@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_a_random_writer_reads_back_what_it_wrote(here: Path, engine: str) -> None:
    fio = needs("fio")
    common = [
        fio, "--name=job", f"--directory={here}", f"--ioengine={engine}", "--size=16m", "--bsrange=4k-64k",
        "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=512", "--numjobs=2", "--thread", "--runtime=10",
        "--verify_state_save=0",
    ]  # fmt: skip
    run(*common, "--rw=randrw", "--fsync=64", "--randseed=7")
    assert sum(path.stat().st_size for path in here.glob("job.*")) == 32 << 20


def test_permissions_are_those_of_the_caller(here: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs other users to be")
    for name, mode in (("mine", 0o600), ("theirs", 0o604), ("script", 0o755)):
        (here / name).write_bytes(b"#!/bin/sh\necho ran\n")
        os.chmod(here / name, mode)
    os.chmod(here, 0o755)
    (here / "drop").mkdir()
    os.chmod(here / "drop", 0o1777)
    os.chown(here / "mine", 12345, 12345)

    def other(line: str) -> int:
        # From inside: the directories above belong to the test's own user.
        done = subprocess.run(
            ["sh", "-c", line], cwd=here, user=54321, group=54321, extra_groups=[], capture_output=True, timeout=30, check=False
        )
        return done.returncode

    assert other("cat theirs") == 0
    assert other("cat mine") != 0
    assert other("./script") == 0
    assert other("echo x > new") != 0
    assert other("echo x > drop/new") == 0
    assert (here / "drop/new").stat().st_uid == 54321
    assert other("chmod 777 theirs") != 0
    assert other("chmod 640 drop/new") == 0
    assert other("rm drop/new") == 0

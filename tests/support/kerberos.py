"""A key distribution centre of MIT Kerberos on loopback, and an HDFS that believes nobody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.hdfs import Security
from support.processes import Child, free_port, require

REALM = "TEST.EXAMPLE"


@dataclass(frozen=True)
class Kdc:
    """`settings` is the client's krb5.conf."""

    folder: Path
    settings: Path
    environ: dict[str, str]

    def key_table(self, *principals: str) -> Path:
        """A file with new keys of these principals, which are made."""
        table = self.folder / f"{principals[0].replace('/', '-')}.keytab"
        for principal in principals:
            self.run("kadmin.local", "-q", f"addprinc -randkey {principal}@{REALM}")
            self.run("kadmin.local", "-q", f"ktadd -norandkey -k {table} {principal}@{REALM}")
        return table

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [require(program), *arguments], env={**os.environ, **self.environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def kdc(folder: Path) -> Iterator[Kdc]:
    """Up in a second."""
    program = require("krb5kdc")
    folder.mkdir()
    port = free_port()
    settings, own = folder / "krb5.conf", folder / "kdc.conf"
    settings.write_text(
        f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_realm = false\ndns_lookup_kdc = false\nrdns = false\n"
        "dns_canonicalize_hostname = false\nudp_preference_limit = 1\n"
        f"[realms]\n{REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n[domain_realm]\nlocalhost = {REALM}\n"
    )
    own.write_text(
        f"[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n"
        f"[realms]\n{REALM} = {{\n database_name = {folder}/principal\n key_stash_file = {folder}/stash\n"
        f" acl_file = {folder}/acl\n}}\n[logging]\nkdc = FILE:{folder}/kdc.log\n"
    )
    environ = {"KRB5_CONFIG": str(settings), "KRB5_KDC_PROFILE": str(own), "KRB5CCNAME": f"FILE:{folder}/none"}
    made = Kdc(folder, settings, environ)
    made.run("kdb5_util", "create", "-s", "-r", REALM, "-P", os.urandom(16).hex())
    child = Child([program, "-n"], folder / "krb5kdc.out", environ=environ)
    try:
        child.wait_listening(port)
        yield made
    finally:
        child.stop(grace_s=0)


def secured_by(centre: Kdc) -> Security:
    """An HDFS whose servers and clients prove who they are, and whose blocks nobody gets without a token."""
    servers = centre.key_table("hdfs/localhost", "HTTP/localhost")
    settings = {
        "hadoop.security.authentication": "kerberos",
        "dfs.block.access.token.enable": "true",
        "ignore.secure.ports.for.testing": "true",
        "dfs.web.authentication.kerberos.principal": f"HTTP/localhost@{REALM}",
        "dfs.web.authentication.kerberos.keytab": str(servers),
    }
    for role in ("namenode", "datanode"):
        settings |= {
            f"dfs.{role}.kerberos.principal": f"hdfs/localhost@{REALM}",
            f"dfs.{role}.keytab.file": str(servers),
            f"dfs.{role}.kerberos.internal.spnego.principal": f"HTTP/localhost@{REALM}",
        }
    return Security(settings, (f"-Djava.security.krb5.conf={centre.settings}",))

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.control.plane import ControlPlane
from headrace.control.settings import ControlSettings, KeySpec
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.errors import NotFound, SettingsError, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule


def test_state_joins_settings_and_ledger(plane: ControlPlane) -> None:
    plane.add_mount(MountSpec("/added", "s3://added"), actor="test")
    plane.ledger.keys.add("guest", "another-secret-9")
    state = plane.state()
    assert [mount.path for mount in state.mounts] == ["/added", "/fixed"]
    assert {key.id for key in state.keys} == {"analyst", "guest", plane.owner().id}
    assert [entry.origin for entry in plane.mounts()] == ["ledger", "settings"]


def test_each_change_gives_a_higher_epoch(plane: ControlPlane) -> None:
    epochs = [plane.state().epoch]
    plane.add_mount(MountSpec("/added", "s3://added"), actor="test")
    epochs.append(plane.state().epoch)
    plane.remove_mount("/added", actor="test")
    epochs.append(plane.state().epoch)
    assert epochs == sorted(set(epochs))
    assert epochs[0] >= 1


def test_mounts_of_the_settings_are_read_only(plane: ControlPlane) -> None:
    with pytest.raises(SettingsError, match="change it there"):
        plane.remove_mount("/fixed", actor="test")
    with pytest.raises(SettingsError, match="change it there"):
        plane.check_replacement(MountSpec("/fixed", "s3://other"))
    with pytest.raises(SettingsError, match="mounted already"):
        plane.add_mount(MountSpec("/fixed", "s3://other"), actor="test")


def test_settings_win_over_a_mount_that_was_added_before(ledger: Ledger, tmp_path: Path) -> None:
    ledger.state.put_mount(MountSpec("/a", "s3://old"), expected=None)
    plane = ControlPlane(ledger, ControlSettings(home=tmp_path, mounts=(MountSpec("/a", "s3://new"),)), SystemClock())
    assert [mount.store for mount in plane.state().mounts] == ["s3://new"]
    plane.remove_mount("/a", actor="test")
    assert ledger.state.mounts() == ()


def test_a_mount_that_is_not_there_is_named_with_those_that_are(plane: ControlPlane) -> None:
    with pytest.raises(NotFound, match="/fixed"):
        plane.remove_mount("/other", actor="test")


def test_two_changes_of_one_mount_do_not_overwrite_each_other(plane: ControlPlane) -> None:
    first = MountSpec("/added", "s3://added")
    plane.add_mount(first, actor="test")
    plane.replace_mount(msgspec.structs.replace(first, freshness="1s"), expected=first, actor="one")
    with pytest.raises(VersionChanged, match="somebody else"):
        plane.replace_mount(msgspec.structs.replace(first, freshness="2s"), expected=first, actor="two")
    assert plane.mount("/added").spec.freshness == "1s"


def test_changes_leave_an_audit_line(plane: ControlPlane) -> None:
    plane.add_mount(MountSpec("/added", "s3://added"), actor="alice")
    plane.set_pin("/added", True, actor="bob")
    plane.remove_mount("/added", actor="carol")
    assert [(r.kind, r.actor, r.target) for r in plane.ledger.audit.recent()] == [
        ("mount.rm", "carol", "/added"),
        ("pin.on", "bob", "/added"),
        ("mount.add", "alice", "/added"),
    ]


def test_weak_secrets_and_wrong_mounts_refuse_to_start(ledger: Ledger, tmp_path: Path) -> None:
    for settings in (
        ControlSettings(home=tmp_path, keys=(KeySpec("k", "env:K"),)),
        ControlSettings(home=tmp_path, mounts=(MountSpec("/a", "nonsense"),)),
        ControlSettings(home=tmp_path, mounts=(MountSpec("/a", "s3://a"), MountSpec("/a", "s3://b"))),
    ):
        with pytest.raises(SettingsError):
            ControlPlane(ledger, settings, SystemClock(), environ={"K": "minioadmin"})


def test_rules_of_the_settings_come_first(ledger: Ledger, tmp_path: Path) -> None:
    rule = Rule("/secret", effect="deny")
    assert ControlPlane(ledger, ControlSettings(home=tmp_path, rules=(rule,)), SystemClock()).state().rules == (rule,)


def test_the_admin_token_stays_the_same(plane: ControlPlane) -> None:
    assert plane.admin_token() == plane.admin_token()
    assert len(plane.admin_token()) >= 40

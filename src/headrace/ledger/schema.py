"""The tables, each once, with the types that the code uses. `migrations/` makes them; a test holds both equal."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, MetaData, Table, Text

from headrace.ledger.columns import AsFlag, AsJson, AsWord
from headrace.ledger.records import JobProgress, JobState
from headrace.ledger.sync_records import SyncSpec, SyncState
from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule

metadata = MetaData()

facts = Table("facts", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

mounts = Table(
    "mounts",
    metadata,
    Column("path", Text, primary_key=True),
    Column("spec", AsJson(MountSpec), nullable=False),
    Column("created_s", Double, nullable=False),
    Column("updated_s", Double, nullable=False),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_s", Double, nullable=False),
)

rules = Table(
    "rules",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("rule", AsJson(Rule), nullable=False),
)

pins = Table("pins", metadata, Column("path", Text, primary_key=True), Column("created_s", Double, nullable=False))

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", AsWord(JobState), nullable=False),
    Column("progress", AsJson(JobProgress), nullable=False),
    Column("error", Text, nullable=False),
    Column("created_s", Double, nullable=False),
    Column("updated_s", Double, nullable=False),
    Index("jobs_by_age", "created_s"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("audit_by_age", "at_s"),
)

syncs = Table(
    "syncs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", AsJson(SyncSpec), nullable=False),
    Column("state", AsJson(SyncState), nullable=False),
    Column("paused", AsFlag, nullable=False),
    Column("created_s", Double, nullable=False),
)

sync_pairs = Table(
    "sync_pairs",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("a", Text, nullable=False),
    Column("b", Text, nullable=False),
)

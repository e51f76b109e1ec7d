-- Plain SQL that SQLite and PostgreSQL both take. One statement ends at each semicolon at a line's end.

CREATE TABLE facts (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE mounts (
    path TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    created_s DOUBLE PRECISION NOT NULL,
    updated_s DOUBLE PRECISION NOT NULL
);

CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    created_s DOUBLE PRECISION NOT NULL
);

CREATE TABLE rules (
    position INTEGER NOT NULL PRIMARY KEY,
    rule TEXT NOT NULL
);

CREATE TABLE pins (
    path TEXT NOT NULL PRIMARY KEY,
    created_s DOUBLE PRECISION NOT NULL
);

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    progress TEXT NOT NULL,
    error TEXT NOT NULL,
    created_s DOUBLE PRECISION NOT NULL,
    updated_s DOUBLE PRECISION NOT NULL
);

CREATE INDEX jobs_by_age ON jobs (created_s);

CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at_s DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_age ON audit (at_s);

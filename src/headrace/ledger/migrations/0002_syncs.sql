-- Pairs of paths that are kept alike, and what their objects were when both sides last agreed. Keys are compared by their bytes:
-- a database whose collation does otherwise needs COLLATE "C" on sync_pairs.key.

CREATE TABLE syncs (
    name TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    paused INTEGER NOT NULL,
    created_s DOUBLE PRECISION NOT NULL
);

CREATE TABLE sync_pairs (
    sync TEXT NOT NULL,
    key TEXT NOT NULL,
    a TEXT NOT NULL,
    b TEXT NOT NULL,
    PRIMARY KEY (sync, key)
);

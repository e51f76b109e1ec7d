"""Directories, their pages and their sums, against what is in the store."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.memory import MemoryStore
from support.webhdfs import Client, webhdfs

NAMES = st.text("ab-.0", min_size=1, max_size=3)
KEYS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def filled(*keys: str) -> MemoryStore:
    store = MemoryStore()
    for key in keys:
        store.put(key, key.encode())
    return store


def expected(keys: set[str], directory: str) -> set[tuple[str, str]]:
    """Name and kind of all below a directory: an object hides a directory of its name."""
    found: dict[str, str] = {}
    for key in keys:
        names = key.split("/")
        if key.startswith(directory) and not {".", ".."} & set(names[:-1]):
            name, slash, _ = key[len(directory) :].partition("/")
            if name not in ("", ".", ".."):
                found[name] = "FILE" if not slash or found.get(name) == "FILE" else "DIRECTORY"
    return set(found.items())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(KEYS, min_size=1, max_size=12), st.integers(1, 4))
def test_a_directory_shows_each_name_once_however_it_is_paged(keys: set[str], page: int) -> None:
    keys = {key for key in keys if not {".", ".."} & set(key.split("/"))} or {"a"}
    with pytest.MonkeyPatch.context() as patch, webhdfs({"/data": filled(*keys)}) as (_, client):
        patch.setattr("headrace.gateways.webhdfs.listing._PAGE", page)
        patch.setattr("headrace.gateways.webhdfs.listing._AT_ONCE", page)
        for directory in {"", *(key.rpartition("/")[0] for key in keys)}:
            if directory in keys:
                continue
            path = f"/data/{directory}".rstrip("/")
            wanted = expected(keys, f"{directory}/" if directory else "")
            whole = client.ask("GET", path, "LISTSTATUS").json["FileStatuses"]["FileStatus"]
            assert len(whole) == len(wanted)
            assert {(one["pathSuffix"], one["type"]) for one in whole} == wanted
            assert paged(client, path) == wanted


def paged(client: Client, path: str) -> set[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after, more = "", True
    while more:
        told = client.ask("GET", path, "LISTSTATUS_BATCH", startAfter=after).json["DirectoryListing"]
        entries = told["partialListing"]["FileStatuses"]["FileStatus"]
        found += [(one["pathSuffix"], one["type"]) for one in entries]
        more = told["remainingEntries"] > 0
        after = found[-1][0] if found else ""
        assert len(set(found)) == len(found)
    return set(found)


def test_an_object_hides_the_directory_of_its_name_on_later_pages() -> None:
    with pytest.MonkeyPatch.context() as patch, webhdfs({"/data": filled("a", "a-", "a--", "a/b", "b")}) as (_, client):
        patch.setattr("headrace.gateways.webhdfs.listing._PAGE", 1)
        assert paged(client, "/data") == {("a", "FILE"), ("a-", "FILE"), ("a--", "FILE"), ("b", "FILE")}


def test_a_file_lists_itself_and_nothing_is_not_found() -> None:
    with webhdfs({"/data": filled("a/b", "m/")}) as (_, client):
        alone = client.ask("GET", "/data/a/b", "LISTSTATUS").json["FileStatuses"]["FileStatus"]
        assert [(one["pathSuffix"], one["type"]) for one in alone] == [("", "FILE")]
        assert client.names("/data/m") == []
        assert client.names("/") == ["data"]
        for path in ("/data/none", "/none", "/data/a/b/c"):
            for op in ("LISTSTATUS", "LISTSTATUS_BATCH", "GETFILESTATUS", "GETCONTENTSUMMARY"):
                told = client.ask("GET", path, op)
                assert (told.status, told.exception) == (404, "FileNotFoundException")


def test_a_long_directory_is_sent_as_it_comes() -> None:
    with webhdfs({"/data": filled(*(f"d/{number:05}" for number in range(3500)))}) as (_, client):
        told = client.ask("GET", "/data/d", "LISTSTATUS")
        assert told.headers["transfer-encoding"] == "chunked"
        assert [one["pathSuffix"] for one in told.json["FileStatuses"]["FileStatus"]] == [f"{n:05}" for n in range(3500)]


def test_keys_that_have_no_path_are_left_out() -> None:
    with webhdfs({"/data": filled("a//b", "x/../y", "x/./z", "x/ok")}) as (_, client):
        assert client.names("/data/x") == ["ok"]
        summary = client.ask("GET", "/data", "GETCONTENTSUMMARY").json["ContentSummary"]
        assert (summary["fileCount"], summary["directoryCount"]) == (1, 2)


def test_a_summary_counts_all_below() -> None:
    with webhdfs({"/data": filled("a/b/1", "a/b/2", "a/c/d/3", "a/e", "m/n/")}) as (_, client):
        told = client.ask("GET", "/data", "GETCONTENTSUMMARY").json["ContentSummary"]
        assert (told["fileCount"], told["directoryCount"]) == (4, 7)
        assert told["length"] == told["spaceConsumed"] == sum(len(key) for key in ("a/b/1", "a/b/2", "a/c/d/3", "a/e"))
        assert client.ask("GET", "/data/a/e", "GETCONTENTSUMMARY").json["ContentSummary"]["directoryCount"] == 0
        assert client.ask("GET", "/", "GETCONTENTSUMMARY").json["ContentSummary"]["fileCount"] == 4


def test_what_may_not_be_listed_is_neither_shown_nor_counted() -> None:
    policy = Policy((Rule("/data/secret", effect="deny", actions=(Action.READ, Action.LIST)), Rule("/hidden", effect="deny")))
    stores = {"/data": filled("secret/a", "open/b"), "/hidden": filled("x")}
    with webhdfs(stores, policy=policy) as (_, client):
        assert client.names("/") == ["data"]
        assert client.names("/data") == ["open"]
        assert client.ask("GET", "/data", "GETCONTENTSUMMARY").json["ContentSummary"]["fileCount"] == 1
        for op in ("LISTSTATUS", "GETFILESTATUS", "GETCONTENTSUMMARY"):
            told = client.ask("GET", "/data/secret", op)
            assert (told.status, told.exception) == (403, "AccessControlException")

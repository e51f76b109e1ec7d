import base64
import hashlib
import hmac

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import CorruptData, InvalidKey, SettingsError, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import Version
from headrace.stores.az import from_spec
from headrace.stores.az_auth import AzureRequest, signed_headers, string_to_sign
from headrace.stores.az_xml import parse_blob_page

KEY = base64.b64encode(b"a key of the account").decode()


def test_the_string_to_sign_has_every_line_in_its_place() -> None:
    headers = (("x-ms-version", "2021-12-02"), ("x-ms-date", "now"), ("if-match", '"e"'), ("x-ms-range", "bytes=0-1"))
    query = (("restype", "container"), ("comp", "list"), ("prefix", "a b"))
    text = string_to_sign("GET", "/c/k%20y", "acc", query, headers)
    lines = ["GET", "", "", "", "", "", "", "", '"e"', "", "", ""]
    lines += ["x-ms-date:now", "x-ms-range:bytes=0-1", "x-ms-version:2021-12-02", "/acc/c/k%20y"]
    lines += ["comp:list", "prefix:a b", "restype:container"]
    assert text == "\n".join(lines)


def test_the_signature_is_that_of_the_string() -> None:
    request = AzureRequest("HEAD", "/c/k")
    headers = dict(signed_headers(request, "acc", KEY, 0.0))
    text = string_to_sign("HEAD", "/c/k", "acc", (), [pair for pair in headers.items() if pair[0] != "authorization"])
    digest = base64.b64encode(hmac.digest(b"a key of the account", text.encode(), hashlib.sha256)).decode()
    assert headers["authorization"] == f"SharedKey acc:{digest}"
    assert headers["x-ms-date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_without_a_key_nothing_is_signed() -> None:
    assert "authorization" not in dict(signed_headers(AzureRequest("GET", "/c"), "acc", "", 0.0))


def test_a_page_is_parsed_also_where_names_are_encoded() -> None:
    body = b"""<?xml version="1.0"?><EnumerationResults><Blobs><BlobPrefix><Name>a/</Name></BlobPrefix><Blob>
    <Name Encoded="true">b%01c</Name><Properties><Etag>"0x1"</Etag><Content-Length>7</Content-Length></Properties></Blob>
    </Blobs><NextMarker>m</NextMarker></EnumerationResults>"""
    page = parse_blob_page(body, "c")
    assert (page.prefixes, page.marker) == (("a/",), "m")
    assert [(info.key, info.size, info.version) for info in page.objects] == [("b\x01c", 7, Version("etag:0x1"))]


@pytest.mark.parametrize(
    "body", [b"", b"<a>", b"<a><Blobs><Blob><Name>x</Name></Blob></Blobs></a>", b"<a><Blobs><Blob/></Blobs></a>"]
)
def test_an_answer_that_is_no_listing_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptData):
        parse_blob_page(body, "c")


def test_entities_are_not_expanded_without_bound() -> None:
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 50}">' for i in range(1, 9))
    body = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{levels}]><x><NextMarker>&e8;</NextMarker></x>'
    with pytest.raises(CorruptData):
        parse_blob_page(body.encode(), "c")


@pytest.mark.parametrize(
    ("store", "credentials", "environ"),
    [
        ("az://", "anonymous", {}),
        ("az://c", "", {}),
        ("az://c", "", {"AZURE_STORAGE_ACCOUNT": "a"}),
        ("az://c", "env:X", {}),
        ("az://c", "instance", {}),
    ],
)
def test_what_is_missing_is_said(store: str, credentials: str, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        from_spec(MountSpec("/x", store=store, credentials=credentials), environ=environ, clock=SystemClock())


async def test_keys_that_azure_would_change_are_invalid_and_foreign_versions_changed() -> None:
    spec = MountSpec("/x", store="az://c", endpoint="http://127.0.0.1:1", credentials="anonymous")
    store = from_spec(spec, environ={}, clock=SystemClock())
    for key in ("a\\b", "a/../b", "."):
        with pytest.raises(InvalidKey):
            await store.info(key)
    with pytest.raises(VersionChanged):
        await store.read("a", version=Version("id:1"))
    await store.close()

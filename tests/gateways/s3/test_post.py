"""Uploads by a browser's form, through the gateway: whoever signed it is the caller."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.model.events import AccessRefused
from headrace.policy.rules import Action, Policy, Rule
from support.gateway import KEY_ID, Answer, RunningGateway, raw_request
from support.writing import BUCKET, account_gateway, s3_client

LINE = "----form"


def post(running: RunningGateway, key: str, file: bytes, *, tamper: dict[str, str] | None = None, **fields: str) -> Answer:
    """A form signed by boto3 for exactly these fields, changed afterwards by `tamper`."""
    client = s3_client(running)
    conditions: list[Any] = [{name: value} for name, value in fields.items()]
    made = client.generate_presigned_post(BUCKET, key, Fields=dict(fields), Conditions=conditions)["fields"]
    client.close()
    parts = [
        f'--{LINE}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in {**made, **(tamper or {})}.items()
    ]
    parts.append(f'--{LINE}\r\ncontent-disposition: form-data; name="file"; filename="f.txt"\r\n\r\n')
    body = "".join(parts).encode() + file + f"\r\n--{LINE}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={LINE}"}
    return running.talk(raw_request("POST", f"/{BUCKET}", "h", headers, body))[0]


def test_a_form_becomes_an_object(account: RunningGateway, s3: Any) -> None:
    tags = "<Tagging><TagSet><Tag><Key>t</Key><Value>1</Value></Tag></TagSet></Tagging>"
    answer = post(account, "form/é", b"file", **{"x-amz-meta-a": "1", "Content-Type": "text/x", "tagging": tags})
    assert answer.status == 204, answer
    got = s3.get_object(Bucket=BUCKET, Key="form/é")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"file", {"a": "1"}, "text/x")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="form/é")["TagSet"] == [{"Key": "t", "Value": "1"}]


def test_the_answer_is_the_one_that_is_asked_for(account: RunningGateway) -> None:
    answer = post(account, "form/201", b"file", success_action_status="201")
    assert (answer.status, b"<Key>form/201</Key>" in answer.body) == (201, True)
    answer = post(account, "form/303", b"file", success_action_redirect="http://example.com/done")
    assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "http://example.com/done")


def test_the_policy_decides_for_the_signer_and_the_decoded_key() -> None:
    policy = Policy(
        (Rule("/"), Rule("/", actions=(Action.WRITE,)), Rule(f"/{BUCKET}/secret", actions=(Action.WRITE,), effect="deny"))
    )
    with account_gateway("memory", policy=policy) as running:
        assert post(running, "secret/x", b"file").code == "AccessDenied"
        refused = [(event.caller, event.path) for event in running.events if isinstance(event, AccessRefused)]
        assert refused == [(KEY_ID, f"/{BUCKET}/secret/x")]
        assert post(running, "open", b"file").status == 204


@pytest.mark.parametrize("key", ["../x", "a/../../other/x", "//", "%2e%2e%2f", "a\\b"])
def test_16_odd_keys_of_a_form_are_literal(account: RunningGateway, s3: Any, key: str) -> None:
    assert post(account, key, key.encode()).status == 204
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()


def test_1_a_forged_or_changed_form_changes_nothing(account: RunningGateway, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="form/kept", Body=b"old")
    for tamper in ({"x-amz-signature": "0" * 64}, {"key": "form/kept"}, {"x-amz-meta-more": "1"}, {"acl": "public-read"}):
        assert post(account, "form/other", b"new", tamper=tamper).status == 403
    assert s3.get_object(Bucket=BUCKET, Key="form/kept")["Body"].read() == b"old"
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="form/other")

"""An upload by a browser's form: who may send what is said by a policy that somebody with a key has signed.

After "Browser-Based Uploads Using POST" and "POST Object" of the Amazon S3 API Reference (Signature Version 4).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec

from headrace.gateways.http.messages import BadFraming, Response, render_fields
from headrace.gateways.s3.auth import NOBODY, Authenticator, FormClaim, Identity
from headrace.gateways.s3.checksums import declared_checksum
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.incoming import IncomingWrite, broken, stored_encoding
from headrace.gateways.s3.multipart_form import FieldsParser, FileDecoder, boundary_of
from headrace.gateways.s3.post_policy import PostPolicy, check_policy, read_policy
from headrace.gateways.s3.proofs import Proofs
from headrace.gateways.s3.xml import DECLARATION, escape
from headrace.model.writing import Attributes, Body

_MAX_KEY_BYTES = 1024
_MAX_METADATA_BYTES = 2048
_META = "x-amz-meta-"
_CREDENTIALS = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_OLD_CREDENTIALS = ("awsaccesskeyid", "signature")
_CONTENT_FIELDS = ("cache-control", "content-disposition", "content-language", "expires")
_KNOWN = frozenset((*_CREDENTIALS, "x-amz-storage-class"))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[a-z0-9_\-]+")
_REDIRECT = re.compile(r"https?://[\x21-\x7e]{1,2000}")


class PostUpload(msgspec.Struct, frozen=True):
    """A form that was found right up to where its file begins. `tagging` is the XML of the field of that name."""

    identity: Identity
    bucket: str
    key: str
    attributes: Attributes
    body: Body
    tagging: str = ""
    status: int = 204
    redirect: str = ""


async def read_post(call: Call, authenticator: Authenticator) -> PostUpload:
    """Reads the form's fields, not yet its file. Whether its signer may write `key` is for the caller to ask.

    Raises `S3Error` for a malformed form, a wrong signature, and for what the policy does not allow.
    """
    request, bucket = call.request, call.target.bucket
    if not call.identity.caller.anonymous:
        raise refused(
            "InvalidArgument", "Only one auth mechanism allowed: a form carries its signature in its fields.",
            caller=call.identity.caller.key_id,
        )  # fmt: skip
    if call.target.key:
        raise S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.")
    boundary = boundary_of(request.headers.get(b"content-type", b""))
    if request.body is None:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    request.body.allow(None)
    source = aiter(request.body)
    form = await _read_fields(source, FieldsParser(boundary))
    fields = _complete(form, bucket)
    identity, policy = _authenticate(call, authenticator, fields)
    _check_known(fields)
    headers = {name.encode(): value.encode() for name, value in fields.items() if name.startswith("x-amz-checksum-")}
    least, most = (policy.min_length, policy.max_length) if policy is not None else (0, None)
    proofs = Proofs(declared_checksum(headers), least=least, most=most)
    body = IncomingWrite(_go_on(form.rest, source), None, proofs, FileDecoder(boundary))
    return PostUpload(
        identity, bucket, fields["key"], _attributes(fields), body, tagging=fields.get("tagging", ""), status=_status(fields),
        redirect=_redirect(fields),
    )  # fmt: skip


def answer_post(upload: PostUpload, etag: str, location: str) -> Response:
    """The answer once the object is there; `etag` is without quotes, `location` the object's URL."""
    common = (("etag", f'"{etag}"'), ("location", location))
    if upload.redirect:
        joint = "&" if "?" in upload.redirect else "?"
        values = (("bucket", upload.bucket), ("key", upload.key), ("etag", f'"{etag}"'))
        target = upload.redirect + joint + "&".join(f"{name}={quote(value, safe='')}" for name, value in values)
        return Response(303, render_fields((("etag", f'"{etag}"'), ("location", target))))
    if upload.status != 201:
        return Response(upload.status, render_fields(common))
    body = (
        f"{DECLARATION}<PostResponse><Location>{escape(location)}</Location><Bucket>{escape(upload.bucket)}</Bucket>"
        f"<Key>{escape(upload.key)}</Key><ETag>&quot;{escape(etag)}&quot;</ETag></PostResponse>"
    )
    return Response(201, render_fields((("content-type", "application/xml"), *common)), body.encode("utf-8", "replace"))


async def _read_fields(source: AsyncIterator[bytes], form: FieldsParser) -> FieldsParser:
    try:
        async for data in source:
            form.feed(data)
            if form.begun:
                return form
    except BadFraming as error:
        raise broken(error) from error
    raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")


async def _go_on(rest: bytes, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if rest:
        yield rest
    async for data in source:
        yield data


def _complete(form: FieldsParser, bucket: str) -> dict[str, str]:
    """The form's fields with what S3 takes as given put in."""
    fields = dict(form.fields)
    if "key" not in fields:
        raise S3Error(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.",
        )
    name = re.split(r"[/\\]", form.filename)[-1]
    key = fields["key"] = fields["key"].replace("${filename}", name)
    if not key:
        raise S3Error("InvalidArgument", "User key must have a length greater than 0.")
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", "Your key is too long")
    if fields.setdefault("bucket", bucket) != bucket:
        raise S3Error("InvalidArgument", "The form's bucket is not the one that it is sent to.")
    return fields


def _authenticate(call: Call, authenticator: Authenticator, fields: dict[str, str]) -> tuple[Identity, PostPolicy | None]:
    """Who signed the form, and what they allow."""
    if any(name in fields for name in _OLD_CREDENTIALS):
        raise refused("InvalidRequest", "The authorization mechanism you have provided is not supported. Use AWS4-HMAC-SHA256.")
    if "x-amz-security-token" in fields:
        raise refused("InvalidToken", "The provided token is malformed or otherwise invalid.")
    if "policy" not in fields:
        if any(name in fields for name in _CREDENTIALS):
            raise refused("InvalidArgument", "Bucket POST must contain a field named 'policy'.")
        return NOBODY, None
    for name in _CREDENTIALS:
        if name not in fields:
            raise refused(
                "InvalidArgument", f"Bucket POST must contain a field named '{name}'. Check also the order of the fields."
            )
    algorithm, credential, stamp, claimed = (fields[name].encode() for name in _CREDENTIALS)
    claim = FormClaim(algorithm, credential, stamp, fields["policy"].encode(), claimed)
    identity = authenticator.identify_form(claim, call.now_s)
    policy = read_policy(fields["policy"])
    check_policy(policy, fields, call.now_s, identity.caller.key_id)
    return identity, policy


def _check_known(fields: dict[str, str]) -> None:
    """Raises `S3Error` for what would change what is stored, and that we do not do."""
    for name, value in fields.items():
        if name.startswith("x-amz-") and name not in _KNOWN and not name.startswith((_META, "x-amz-checksum-")):
            raise _not_implemented(name)
        if value != _DEFAULTS.get(name, value):
            raise _not_implemented(name)


_DEFAULTS = {"acl": "private", "x-amz-storage-class": "STANDARD"}


def _not_implemented(name: str) -> S3Error:
    return S3Error(
        "NotImplemented", "A field you provided implies functionality that is not implemented", detail=(("Header", name[:80]),)
    )


def _attributes(fields: dict[str, str]) -> Attributes:
    headers = [(name, fields[name]) for name in _CONTENT_FIELDS if fields.get(name)]
    encoding = stored_encoding({b"content-encoding": fields.get("content-encoding", "").encode("latin-1", "replace")})
    if encoding:
        headers.append(("content-encoding", encoding))
    metadata = tuple((name.removeprefix(_META), value) for name, value in fields.items() if name.startswith(_META))
    if not all(_TOKEN.fullmatch(name) for name, _ in metadata):
        raise S3Error("InvalidArgument", "The name of a metadata field is empty, or no header could have it.")
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata) > _MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    content_type = fields.get("content-type", "")
    if any(_CONTROL.search(value) for _, value in (*headers, *metadata, ("content-type", content_type))):
        raise S3Error("InvalidArgument", "A field that is kept with the object holds control characters.")
    return Attributes(content_type, tuple(sorted(headers)), metadata)


def _status(fields: dict[str, str]) -> int:
    wanted = fields.get("success_action_status", "")
    return int(wanted) if wanted in ("200", "201") else 204


def _redirect(fields: dict[str, str]) -> str:
    """The page to go on to; a URL that is none is ignored, as S3 does."""
    wanted = fields.get("success_action_redirect") or fields.get("redirect", "")
    return wanted if _REDIRECT.fullmatch(wanted) else ""

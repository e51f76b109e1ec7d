"""ListBuckets, HeadBucket, GetBucketLocation and GetBucketVersioning."""

from __future__ import annotations

from headrace.gateways.http.messages import Response, render_fields
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, timestamp
from headrace.policy.rules import Action

OWNER = "<Owner><ID>headrace</ID><DisplayName>headrace</DisplayName></Owner>"


async def list_buckets(call: Call) -> Response:
    """The buckets that the caller may list."""
    shown = [bucket for bucket in await call.namespace.buckets() if call.may(Action.LIST, f"/{bucket.name}")]
    inner = "".join(
        f"<Bucket><Name>{escape(bucket.name)}</Name><CreationDate>{timestamp(int(bucket.created_s))}</CreationDate></Bucket>"
        for bucket in shown
    )
    return xml_response(
        f"{DECLARATION}<ListAllMyBucketsResult {NAMESPACE}>{OWNER}<Buckets>{inner}</Buckets></ListAllMyBucketsResult>"
    )


async def head_bucket(call: Call) -> Response:
    await require_bucket(call)
    return Response(200, render_fields((("x-amz-bucket-region", call.region), ("content-type", "application/xml"))), length=0)


async def get_bucket_location(call: Call) -> Response:
    await require_bucket(call)
    region = "" if call.region == "us-east-1" else escape(call.region)
    return xml_response(f"{DECLARATION}<LocationConstraint {NAMESPACE}>{region}</LocationConstraint>")


async def get_bucket_versioning(call: Call) -> Response:
    """Never switched on: one version of each object is shown."""
    await require_bucket(call)
    return xml_response(f"{DECLARATION}<VersioningConfiguration {NAMESPACE}/>")


async def require_bucket(call: Call) -> None:
    """Raises `S3Error` NoSuchBucket."""
    if not await call.namespace.has_bucket(call.target.bucket):
        raise S3Error("NoSuchBucket", "The specified bucket does not exist.")

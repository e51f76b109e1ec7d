"""S3 stores of the project, opened on a test server."""

from __future__ import annotations

from headrace.model.clock import SystemClock
from headrace.stores.credentials import Credentials, FixedCredentials
from headrace.stores.guard import AddressGuard
from headrace.stores.http import Http, HttpSettings
from headrace.stores.s3 import S3Store
from headrace.stores.s3_account import S3AccountStore
from headrace.stores.s3_requests import S3Requests, S3Settings
from support.servers import S3Server


def s3_requests(
    endpoint: str, bucket: str = "", *, key_id: str = "", secret: str = "", read_timeout_s: float = 30.0
) -> S3Requests:
    """Requests to a test server; unsigned without `key_id`."""
    credentials = FixedCredentials(Credentials(key_id, secret) if key_id else None)
    http = Http(HttpSettings(connect_timeout_s=2.0, read_timeout_s=read_timeout_s), guard=AddressGuard())
    return S3Requests(S3Settings(bucket=bucket, endpoint=endpoint), credentials, http, SystemClock())


def s3_store(server: S3Server, bucket: str, *, secret: str | None = None) -> S3Store:
    """A store of one bucket; with `secret`, its caller's secret is that."""
    return S3Store(s3_requests(server.endpoint, bucket, key_id=server.access_key, secret=secret or server.secret_key))


def s3_account(server: S3Server) -> S3AccountStore:
    """The store of all buckets."""
    requests = s3_requests(server.endpoint, key_id=server.access_key, secret=server.secret_key)
    return S3AccountStore(requests, lambda bucket: S3Store(requests.for_bucket(bucket)))

"""S3AccountStore: all buckets of an S3 account as one store."""

from __future__ import annotations

from collections.abc import Callable

from headrace.stores.account_copies import BucketStore, CopyingAccountStore
from headrace.stores.s3_buckets import S3Buckets
from headrace.stores.s3_requests import S3Requests


class S3AccountStore(CopyingAccountStore):
    """An account over per-bucket stores that share its connections."""

    def __init__(self, requests: S3Requests, open_bucket: Callable[[str], BucketStore]) -> None:
        super().__init__(S3Buckets(requests, open_bucket), open_bucket, requests.close)

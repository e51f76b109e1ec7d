"""GCS and Azure stores opened on test servers, with parts as small as a test likes."""

from __future__ import annotations

from headrace.model.clock import SystemClock
from headrace.stores.account_copies import CopyingAccountStore
from headrace.stores.az import AzStore, az_account
from headrace.stores.az_requests import AzRequests
from headrace.stores.credentials import Credentials, FixedCredentials
from headrace.stores.gs import GsStore, gs_account
from headrace.stores.gs_auth import GoogleTokens
from headrace.stores.gs_requests import GsRequests
from headrace.stores.http import Http, HttpSettings
from support.servers import AZURE_ACCOUNT, AZURE_KEY


def gs_requests(endpoint: str, bucket: str = "") -> GsRequests:
    """Requests without a token."""
    clock = SystemClock()
    http = Http(HttpSettings(connect_timeout_s=2.0, read_timeout_s=20.0))
    return GsRequests(bucket, endpoint=endpoint, tokens=GoogleTokens(clock), http=http, clock=clock, project="test")


def gs_store(endpoint: str, bucket: str, *, min_part_bytes: int = 1000) -> GsStore:
    """A store of one bucket."""
    return GsStore(gs_requests(endpoint, bucket), min_part_bytes=min_part_bytes)


def gs_buckets(endpoint: str) -> CopyingAccountStore:
    """The store of all buckets."""
    return gs_account(gs_requests(endpoint))


def az_requests(endpoint: str, container: str = "", *, key: str = AZURE_KEY) -> AzRequests:
    """Requests signed with the emulator's key."""
    credentials = FixedCredentials(Credentials(AZURE_ACCOUNT, key))
    http = Http(HttpSettings(connect_timeout_s=2.0, read_timeout_s=20.0))
    return AzRequests(container, endpoint=endpoint, credentials=credentials, http=http, clock=SystemClock())


def az_store(endpoint: str, container: str, *, min_part_bytes: int = 1000) -> AzStore:
    """A store of one container."""
    return AzStore(az_requests(endpoint, container), min_part_bytes=min_part_bytes)


def az_containers(endpoint: str) -> CopyingAccountStore:
    """The store of all containers."""
    return az_account(az_requests(endpoint))

"""Requests to Azure Blob Storage, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

from headrace.model.clock import Clock
from headrace.model.errors import (
    BucketExists,
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    NotFound,
    SettingsError,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Condition, Pairs
from headrace.stores.az_auth import AzureRequest, blob_sas, check_key_text, is_sas, signed_headers
from headrace.stores.az_objects import blob_info, is_etag, read_tag_text
from headrace.stores.az_xml import parse_tags
from headrace.stores.credentials import CredentialsProvider
from headrace.stores.http import Http, HttpResponse, retry_after_s, status_error
from headrace.stores.sending import Sending
from headrace.stores.writes import check_condition, settled_refusal

Query = tuple[tuple[str, str], ...]
Headers = Sequence[tuple[str, str]]

_READS = frozenset({"GET", "HEAD"})
_KINDS: dict[str, type[HeadraceError]] = {
    "ContainerAlreadyExists": BucketExists,
    "ContainerBeingDeleted": Unavailable,
    "InvalidBlockList": Conflict,
    "InvalidResourceName": InvalidKey,
    "Md5Mismatch": Unavailable,
    "OutOfRangeInput": InvalidKey,
    "PendingCopyOperation": Conflict,
    "ServerBusy": Throttled,
    "SourceConditionNotMet": VersionChanged,
    "CannotVerifyCopySource": Unsupported,
    "CopyAcrossAccountsNotSupported": Unsupported,
}
"""What codes mean, whatever the status."""

_LEASES = "Lease"
_OTHER_BLOCKS = "InvalidBlobOrBlock"


class AzRequests:
    """Requests about one container (or, without one, about the account) that raise what they were refused for."""

    def __init__(self, container: str, *, endpoint: str, credentials: CredentialsProvider, http: Http, clock: Clock) -> None:
        self.container = container
        self.clock = clock
        self._endpoint = endpoint
        self._credentials = credentials
        self._http = http

    def for_container(self, container: str) -> AzRequests:
        """The same account, connections and credentials for requests about `container`."""
        return AzRequests(container, endpoint=self._endpoint, credentials=self._credentials, http=self._http, clock=self.clock)

    async def send(
        self,
        method: str,
        key: str,
        *,
        query: Query = (),
        headers: Headers = (),
        body: bytes | Sending = b"",
        path: str = "",
    ) -> HttpResponse:
        """The answer to a request, whose status is 200 to 299. `key` is empty for the container itself."""
        account, secret, base, target = await self._place(key)
        asked = urlencode(query, quote_via=quote, safe="")
        if is_sas(secret):
            asked = "&".join(part for part in (asked, secret.lstrip("?")) if part)
            secret = ""
        elif secret:
            check_key_text(secret)
        length = body.length if isinstance(body, Sending) else len(body)
        request = AzureRequest(method, target, query, tuple(headers), length)
        signed = signed_headers(request, account, secret, self.clock.time())
        path = path or key or self.container
        url = base + target + (f"?{asked}" if asked else "")
        response = await self._http.request(method, url, headers=signed, body=body, path=path)
        if 200 <= response.status < 300:
            return response
        response.close()
        raise self._refused(method, response, path)

    async def source_url(self, key: str) -> str:
        """An address from which the service may read that blob of this container for a copy."""
        account, secret, base, target = await self._place(key)
        if not secret:
            return base + target
        token = secret.lstrip("?") if is_sas(secret) else blob_sas(account, secret, self.container, key, self.clock.time())
        return f"{base}{target}?{token}"

    async def info(self, key: str) -> ObjectInfo:
        """The blob as it is now. Raises `NotFound`."""
        return described(key, await self.head(key))

    async def head(self, key: str) -> HttpResponse:
        """What the service says of a blob. Raises `NotFound`."""
        response = await self.send("HEAD", key)
        response.close()
        return response

    async def look(self, key: str) -> ObjectInfo | None:
        """The blob as it is now, or None."""
        try:
            return await self.info(key)
        except NotFound:
            return None

    async def tags(self, key: str) -> Pairs:
        """The blob's tags, sorted by name. Raises `NotFound`."""
        response = await self.send("GET", key, query=(("comp", "tags"),))
        found = parse_tags(await response.read(), key)
        return tuple(sorted([(read_tag_text(name), read_tag_text(value)) for name, value in found]))

    async def condition_headers(self, condition: Condition, key: str) -> list[tuple[str, str]]:
        """The one header that makes a change of `key` conditional: the service takes no two.

        Raises `ConditionFailed` or `NotFound` when the condition cannot hold.
        """
        if not condition:
            return []
        wanted, unwanted = condition.if_match, condition.if_none_match
        if unwanted == "*" and not wanted:
            return [("if-none-match", "*")]
        if is_etag(wanted) and unwanted not in ("*", wanted):
            return [("if-match", f'"{wanted}"')]
        found = await self.look(key)
        check_condition(condition, found, key)
        return [("if-none-match", "*") if found is None else ("if-match", f'"{found.etag}"')]

    async def settle_refusal(self, error: HeadraceError, condition: Condition, key: str) -> HeadraceError:
        """What to raise for a refused condition: the service does not tell what is there instead."""
        return settled_refusal(error, condition, await self.look(key), key, f"az {self.container}/{key}")

    async def check_container(self) -> None:
        """Raises `NotFound` when the container itself is not there."""
        query = (("restype", "container"), ("comp", "list"), ("maxresults", "1"))
        (await self.send("GET", "", query=query)).close()

    async def close(self) -> None:
        await self._http.close()
        await self._credentials.close()

    async def _place(self, key: str) -> tuple[str, str, str, str]:
        """Account, secret, origin, and the path of the blob there."""
        credentials = await self._credentials.get()
        account, secret = (credentials.key_id, credentials.secret) if credentials is not None else ("", "")
        base = self._endpoint or f"https://{account}.blob.core.windows.net"
        if not account and not self._endpoint:
            raise SettingsError("an anonymous az mount needs an endpoint, such as https://ACCOUNT.blob.core.windows.net")
        # Emulators and proxies carry the account as the path's first segment instead of in the host's name.
        in_host = not account or (urlsplit(base).hostname or "").startswith(account + ".")
        names = [quote(name, safe="") for name in (self.container, key) if name]
        return account, secret, base, ("" if in_host else "/" + account) + "/" + "/".join(names)

    def _refused(self, method: str, response: HttpResponse, path: str) -> HeadraceError:
        code, status = response.headers.get("x-ms-error-code", ""), response.status
        message = f"container {self.container!r} answered {status} {code} for {path!r}"
        kind = _KINDS.get(code)
        if kind is Throttled:
            return Throttled(message, path=path, retry_after_s=retry_after_s(response.headers, self.clock.time()))
        if kind is not None:
            return kind(message, path=path)
        if code.startswith(_LEASES):
            return Conflict(f"{message}: another program holds a lease on it", path=path)
        if code == _OTHER_BLOCKS:
            return Conflict(f"{message}: blocks of another program's unfinished upload are in the way for a week", path=path)
        if method not in _READS and (status == 412 or code == "BlobAlreadyExists"):
            return ConditionFailed(message, path=path)
        if status == 409:
            return Conflict(message, path=path)
        return status_error(status, message, path=path, headers=response.headers, now_s=self.clock.time())


def described(key: str, response: HttpResponse) -> ObjectInfo:
    """The blob that the answer to a HEAD describes. Raises `CorruptData`."""
    size = response.headers.get("content-length", "")
    if not (size.isascii() and size.isdigit()):
        raise CorruptData(f"{key!r}: the store did not say how long the object is", path=key)
    return blob_info(key, int(size), response.headers)

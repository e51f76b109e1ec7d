"""Requests to one web server: who asks, redirects within the address rule, and what refusals mean."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from urllib.parse import quote, unquote, urljoin, urlsplit

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, InvalidKey, NotFound, Unavailable, Unsupported
from headrace.stores.http import Http, HttpResponse, Redirected, status_error
from headrace.stores.login import Login
from headrace.stores.tree_listing import FileStatus
from headrace.stores.urls import shown_url
from headrace.stores.web_index import MAX_INDEX_BYTES, linked_names

_HOPS = 5
_FOLLOWED = (301, 302, 303, 307, 308)


class WebRequests:
    """GET and HEAD below `root`, a URL that ends with a slash; its directories, by their index pages."""

    def __init__(self, root: str, login: Login, http: Http, clock: Clock) -> None:
        self.root = root
        self._headers = _authorization(login)
        self._http = http
        self._clock = clock

    async def send(
        self, method: str, target: str, key: str, *, headers: Sequence[tuple[str, str]] = (), passed: Sequence[int] = ()
    ) -> HttpResponse:
        """The answer for `target` below the root: 200, 206 or one of `passed`; other statuses are raised as errors.

        At most five redirects are followed, never from TLS to none, wherever the mount's address rule allows; the login
        goes to the store's own origin alone. A redirect to the same path with a slash tells of a directory: `NotFound`.
        """
        url = self.root + target
        for _ in range(_HOPS + 1):
            own = self._headers if _origin(url) == _origin(self.root) else ()
            try:
                response = await self._http.request(method, url, headers=(*headers, *own), path=key)
            except Redirected as redirect:
                url = self._next(url, redirect, key)
                continue
            if response.status in (200, 206, *passed):
                return response
            response.close()
            raise self._refusal(method, response, key)
        raise Unavailable(f"{shown_url(self.root)}: more than {_HOPS} redirects for {key!r}", path=key)

    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:  # noqa: ARG002  a page tells all
        """The names that the index page of directory `path` links."""
        target = quote(path.strip("/"), safe="/")
        target += "/" if target else ""
        try:
            response = await self.send("GET", target, path)
        except AccessDenied as error:
            raise AccessDenied(
                f"{error}; if only index pages are refused, set index_pages = false on the mount", path=path
            ) from error
        except NotFound as error:
            if target:
                raise
            raise Unsupported(f"{error}: without index pages set index_pages = false on the mount", path=path) from error
        if "html" not in response.headers.get("content-type", ""):
            response.close()
            raise Unsupported(f"{response.url} is no index page: set index_pages = false on the mount", path=path)
        page = await response.read(MAX_INDEX_BYTES)
        return linked_names(page, response.url, response.headers.get("content-type", "")), False

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    def _next(self, url: str, redirect: Redirected, key: str) -> str:
        place = redirect.headers.get("location", "")
        if redirect.status not in _FOLLOWED or not place:
            raise Unavailable(f"{shown_url(url)}: answered {redirect.status} without a place to go", path=key)
        try:
            following = urljoin(url, place).partition("#")[0]
            parts = urlsplit(following)
        except ValueError:
            raise Unavailable(f"{shown_url(url)}: redirects to what is no URL", path=key) from None
        if unquote(parts.path) == unquote(urlsplit(url).path) + "/":
            raise NotFound(f"{key!r} is a directory, not an object", path=key)
        if url.startswith("https:") and parts.scheme != "https":
            raise Unsupported(
                f"{shown_url(url)}: redirects from https to {shown_url(following)}, which is not followed", path=key
            )
        return following

    def _refusal(self, method: str, response: HttpResponse, key: str) -> Exception:
        status = response.status
        if status == 414:
            return InvalidKey(f"{key!r}: longer than the server takes", path=key)
        words = {
            401: "wants a login: name one with credentials = env:PREFIX",
            403: "refuses it",
            404: "does not have it",
            405: f"does not take {method}, which reading needs",
            501: f"does not know {method}, which reading needs",
        }
        message = f"{response.url} answered {status}: the server {words.get(status, 'could not serve it')}"
        if status == 501:
            return Unsupported(message, path=key)
        return status_error(status, message, path=key, headers=response.headers, now_s=self._clock.time())


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _authorization(login: Login) -> tuple[tuple[str, str], ...]:
    if login.token:
        return (("authorization", f"Bearer {login.token}"),)
    if login.user:
        return (("authorization", "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()),)
    return ()

"""Who asks: a signature, a delegation token, a grant of ours, a name that the settings let us believe, or nobody."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

import msgspec

from headrace.gateways.http.messages import Request
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.webhdfs.asked import Asked
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter, not_offered
from headrace.gateways.webhdfs.grants import PARAMETER, Grants
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokenbook import TokenBook
from headrace.model.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD
from headrace.policy.rules import ANONYMOUS, Caller

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._@-]{0,63}[$]?")
_HEX = re.compile(rb"[0-9a-f]{64}")
_SIGNED_NAMES = frozenset(
    ("x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-signedheaders", "x-amz-expires", "x-amz-date",
     "x-amz-security-token", "awsaccesskeyid", "signature")
)  # fmt: skip


class Who(msgspec.Struct, frozen=True):
    """The caller. `carried` goes into redirects; `signed` says that it came by a signature."""

    caller: Caller
    name: str = ""
    """As the caller calls itself: believed only where it is the caller's own."""
    carried: tuple[tuple[str, str], ...] = ()
    signed: bool = False
    content_sha256: bytes = UNSIGNED_PAYLOAD
    """What a signature says of the body."""


class Doorkeeper:
    """Finds out who asks. No IO but that of the tokens' folder."""

    def __init__(self, authenticator: Authenticator, tokens: TokenBook, grants: Grants, settings: WebHdfsSettings) -> None:
        self._authenticator = authenticator
        self._tokens = tokens
        self._grants = grants
        self._networks = tuple(ipaddress.ip_network(text) for text in settings.trust_user_name_from)
        advertised = host_of(urlsplit(settings.advertise if "://" in settings.advertise else "//" + settings.advertise).netloc)
        own = ("localhost", socket.gethostname(), advertised, *settings.hosts) if self._networks else ()
        self._hosts = frozenset(name.lower() for name in own if name)

    def identify(self, request: Request, asked: Asked, now_s: float) -> Who:
        """Raises `HdfsError` for everything that claims to be somebody and does not prove it; nobody is `ANONYMOUS`."""
        values = asked.values
        if "doas" in values:
            raise not_offered("doas: nobody acts for another here; ask as yourself")
        name = _user_name(values.get("user.name", ""))
        signed = b"authorization" in request.headers or not _SIGNED_NAMES.isdisjoint(values)
        if PARAMETER in values:
            return self._by_grant(request, asked, now_s)
        if "delegation" in values and values["delegation"] != "null":
            if signed:
                raise _two_ways()
            said = self._tokens.check(values["delegation"], now_s)
            return Who(Caller(said.owner), said.owner, (("delegation", values["delegation"]),))
        if signed:
            return self._by_signature(request, now_s)
        carried = (("user.name", name),) if name else ()
        if name and self._believes(request):
            return Who(Caller(name), name, carried)
        return Who(ANONYMOUS, name, carried)

    def _by_grant(self, request: Request, asked: Asked, now_s: float) -> Who:
        caller = self._grants.check(asked.values[PARAMETER], asked.path, asked.values, now_s)
        header = request.headers.get(b"authorization")
        # A client that follows a redirect within one host sends its old signature along; another's says that two people ask.
        if header is not None and b"Credential=" + caller.encode() + b"/" not in header:
            raise _two_ways()
        if "delegation" in asked.values or not _SIGNED_NAMES.isdisjoint(asked.values):
            raise _two_ways()
        return Who(Caller(caller), caller, ((PARAMETER, asked.values[PARAMETER]),))

    def _by_signature(self, request: Request, now_s: float) -> Who:
        if b"+" in request.query:
            # Signed alike, but read as a space in one and as itself in the other of its two spellings.
            raise HdfsError("IllegalArgumentException", "write %20 or %2B instead of + in what you sign", audited=True)
        try:
            identity = self._authenticator.identify(request, now_s)
        except S3Error as error:
            raise HdfsError("AuthenticationException", error.message, audited=True, caller=error.caller) from None
        content = identity.content_sha256
        if content != UNSIGNED_PAYLOAD and not _HEX.fullmatch(content):
            raise HdfsError("AuthenticationException", "sign the body's SHA-256 or UNSIGNED-PAYLOAD", audited=True)
        if request.body is None and content not in (UNSIGNED_PAYLOAD, EMPTY_SHA256):
            raise HdfsError("AuthenticationException", "the body that was signed did not come", audited=True)
        caller = identity.caller
        return Who(caller, caller.key_id, signed=not caller.anonymous, content_sha256=content)

    def _believes(self, request: Request) -> bool:
        """Whether the settings let this client be who it says.

        A browser is none that they mean: pages of other sites, and names that lead here only for them, could speak for its user.
        """
        if not self._networks or b"origin" in request.headers:
            return False
        try:
            address = ipaddress.ip_address(request.peer.rpartition(":")[0].partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        if not any((mapped or address) in network for network in self._networks):
            return False
        host = host_of(request.headers.get(b"host", b"").decode("latin-1").strip(" \t"))
        return host.lower() in self._hosts or _is_address(host)


def unnamed(who: Who, request: Request) -> HdfsError:
    """The refusal of somebody who is nobody here, with what may be done about it."""
    address = request.peer.rpartition(":")[0]
    said = f'user.name "{who.name}" counts for nothing here' if who.name else "nobody is named"
    return HdfsError(
        "AuthenticationException",
        f'Authentication required: {said}. Set trust_user_name_from = ["{address}"] under [gateway.webhdfs] to believe clients '
        "at that address, or anonymous = true on the mount to let all read; else sign the request or send a delegation token",
        audited=True,
    )


def host_of(place: str) -> str:
    """The host of `host:port`, without brackets."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _user_name(text: str) -> str:
    if text and not _USER.fullmatch(text):
        raise bad_parameter("user.name", f"{text[:64]!a} is not the name of a user")
    return text


def _two_ways() -> HdfsError:
    return HdfsError("AuthenticationException", "say who asks in one way: by a signature or a token", status=400, audited=True)

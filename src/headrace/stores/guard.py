"""Which addresses a store may be reached at, checked for the very address that is connected to.

Loopback and private networks are allowed: on-premises stores live there. Link-local, cloud
metadata, unspecified, multicast and broadcast addresses are refused, in every way of writing them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
    }
)
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    )
)
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class AddressRefused(OSError):
    """The address rule forbids this target. An OSError, so that it passes through connecting code."""


class AddressGuard(msgspec.Struct, frozen=True):
    """The address rule of one mount. `permitted` names addresses that are allowed whatever they are."""

    allow_private: bool = False
    permitted: frozenset[str] = frozenset()

    def check_host(self, host: str) -> None:
        """Refuse a host name or literal before DNS is asked. Raises `AddressRefused`."""
        if self.allow_private or host in self.permitted:
            return
        name = host.rstrip(".").lower()
        if name in METADATA_NAMES:
            raise AddressRefused(_refusal(host, "a cloud metadata name"))
        address = parse_literal(name)
        if address is not None:
            self._check(address, host)

    def check_address(self, text: str) -> None:
        """Refuse an address that is about to be connected to. Raises `AddressRefused`."""
        if not self.allow_private and text not in self.permitted:
            self._check(ipaddress.ip_address(text), text)

    def open_socket(self, info: AddressInfo) -> socket.socket:
        """The socket for a connection to exactly `info`'s address. Raises `AddressRefused`."""
        family, kind, protocol, _, target = info
        self.check_address(target[0])
        return socket.socket(family, kind, protocol)

    def _check(self, address: Address, written: str) -> None:
        for candidate in (address, *_embedded(address)):
            reason = _reason(candidate)
            if reason:
                raise AddressRefused(_refusal(written, reason))


class GuardedResolver:
    """DNS through the system, at most `timeout_s`; a name with any refused address is refused whole."""

    def __init__(self, guard: AddressGuard, timeout_s: float) -> None:
        self._guard = guard
        self._timeout_s = timeout_s

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of `host`, at least one, best first. Raises `AddressRefused` and other `OSError`s."""
        self._guard.check_host(host)
        lookup = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            found = await asyncio.wait_for(lookup, self._timeout_s)
        except TimeoutError:
            raise OSError(f"DNS did not answer for {host} within {self._timeout_s:g} s") from None
        for info in found:
            self._guard.check_address(str(info[4][0]))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        return list(found)


def parse_literal(host: str) -> Address | None:
    """The address that `host` writes, also as one number, in hex, in octal or shortened; None for a name."""
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if not text or not text.isascii() or any(char.isspace() for char in text):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def _embedded(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address.teredo is not None:
        found.extend(address.teredo)
    compatible = int(address) >> 32 == 0 and int(address) > 1
    if compatible or any(address in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _reason(address: Address) -> str:
    """Why an address is refused, or nothing."""
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Address(int(address))  # without a scope id, which would hide it from the set
    if address in METADATA_ADDRESSES:
        return "a cloud metadata address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (address.version == 4 and address in _THIS_NETWORK):
        return "an unspecified address"
    if address == ipaddress.IPv4Address("255.255.255.255"):
        return "the broadcast address"
    return ""


def _refusal(written: str, reason: str) -> str:
    return f"{written} is {reason}, which stores are not reached at: set allow_private = true on the mount if this is meant"

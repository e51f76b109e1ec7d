"""Settings of the WebHDFS gateway."""

from __future__ import annotations

import ipaddress
import re

import msgspec

_PLACE = re.compile(r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class WebHdfsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway.webhdfs]`: whom to believe, and where clients are sent for their bytes."""

    trust_user_name_from: tuple[str, ...] = ()
    """Networks, such as `10.0.0.0/8`, whose clients are who `user.name` says. From all others it counts for nothing."""
    hosts: tuple[str, ...] = ()
    """Host names of this node, next to its own and its addresses, under which `user.name` may be believed."""
    advertise: str = ""
    """`host:port` or URL to which redirects lead; empty: the address that the client has reached."""
    token_renew_s: int = 86400
    """How long a delegation token is good for without being renewed."""
    token_max_s: int = 604800
    """How long it is good for at most."""

    def __post_init__(self) -> None:
        for network in self.trust_user_name_from:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f'trust_user_name_from: {error}: write a network, such as "10.0.0.0/8"') from None
        if self.advertise and not _PLACE.fullmatch(self.advertise):
            raise ValueError(f'advertise: {self.advertise[:80]!a} is neither "host:port" nor "https://host:port"')
        if not 0 < self.token_renew_s <= self.token_max_s <= 366 * 86400:
            raise ValueError("token_renew_s and token_max_s: a token lasts from a second to a year, renewed at least once in it")

"""Settings of the gateways: names, limits and time allowed. Every number has its unit in its name."""

from __future__ import annotations

import msgspec

from headrace.gateways.webhdfs.settings import WebHdfsSettings


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway]`: what clients may send and how long they may take."""

    domain: str = ""
    """Host name under which buckets are host names too (`bucket.domain`); empty: path style only."""
    region: str = "us-east-1"
    """The region that callers sign for."""
    max_connections: int = 4096
    """Per serving process; further clients get 503 `SlowDown`."""
    max_head_bytes: int = 32768
    """Request line and headers together."""
    max_headers: int = 100
    max_target_bytes: int = 8192
    """Path and query as sent, percent-encoding included."""
    max_body_bytes: int = 1048576
    """The longest body that a request which is not an upload may carry."""
    head_timeout_s: float = 20.0
    """From a request's first byte to the end of its headers."""
    idle_timeout_s: float = 75.0
    """Between two requests of one connection."""
    floor_bytes_per_s: int = 1024
    """A client that reads or sends slower than this over `floor_window_s` is cut."""
    floor_window_s: float = 20.0
    linger_s: float = 2.0
    """How long bytes that nobody will read are taken in after a refusal, so that the refusal arrives."""
    sweep_s: float = 0.5
    """How often connections are looked over for deadlines; deadlines are this coarse."""
    slowest_reads: int = 32
    """How many of the slowest reads are kept for the status page."""
    webhdfs: WebHdfsSettings = WebHdfsSettings()
    """WebHDFS on the data port."""

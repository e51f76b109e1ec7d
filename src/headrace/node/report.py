"""One worker's numbers for the status page, from the gateway, the cache and the tally."""

from __future__ import annotations

import msgspec

from headrace.cache.pages import PageCache
from headrace.control.node_view import Counters, MountStats, SlowRead, TierStats
from headrace.gateways.s3.server import S3Gateway
from headrace.node.messages import WorkerReport
from headrace.node.tally import Tally
from headrace.node.view import rss_bytes
from headrace.wiring import LiveMounts

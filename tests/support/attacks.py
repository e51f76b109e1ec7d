"""Requests that an attacker would send to a real node, signed by botocore, with any part of them changed afterwards."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.gateway import Answer, exchange, raw_request, signed_request
from support.node import RunningNode


@dataclass(frozen=True)
class Caller:
    """One key of a node."""

    node: RunningNode
    key_id: str
    secret: str

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        """One signed request and its answer."""
        signed = signed_request(self.node.data_url, method, path, headers, key_id=self.key_id, secret=self.secret, **options)
        return send(self.node, signed, heads=method == "HEAD")[0]

    def respelled(self, method: str, plain: str, sent: str, headers: dict[str, str] | None = None) -> Answer:
        """Rightly signed for `plain`, sent as `sent`: another spelling of the same bytes."""

        def respell(request: Any) -> None:
            request.url = request.url.replace(plain, sent)

        return self.ask(method, plain, headers, tamper=respell)


def send(node: RunningNode, data: bytes, *, heads: bool = False) -> list[Answer]:
    """Bytes to the data port, and what came back before it closed."""
    host, _, port = node.data.rpartition(":")
    return exchange(host, int(port), data, heads=heads)


def owner(node: RunningNode) -> Caller:
    return Caller(node, node.key_id, node.secret)


def unsigned(node: RunningNode, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    """A request without any signature."""
    return send(node, raw_request(method, path, node.data, headers or {}), heads=method == "HEAD")[0]


def control(
    node: RunningNode, method: str, path: str, body: object = None, *, raw: bytes | None = None,
    headers: Mapping[str, str] | None = None, token: str | None = None,
) -> tuple[int, bytes]:  # fmt: skip
    """One request to the control port with the admin token, or with `token`: status and body, whatever they are."""
    connection = http.client.HTTPConnection(node.control, timeout=60)
    given = node.token if token is None else token
    sent = {"authorization": f"Bearer {given}"} if given else {}
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    if data is not None:
        sent["content-type"] = "application/json"
    try:
        connection.request(method, path, body=data, headers={**sent, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

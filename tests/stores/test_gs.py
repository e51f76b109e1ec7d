import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.stores.gs import from_spec
from headrace.stores.gs_auth import google_tokens

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class StepClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000 + self.now


class TokenServer:
    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.status = 200
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form | {"flavor": request.headers.get("metadata-flavor", "")})
        return web.json_response({"access_token": f"token-{len(self.asked)}", "expires_in": 3600}, status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


def key_file(folder: Path, port: int, **changes: str) -> str:
    document = {"type": "service_account", "client_email": "me@example.org", "private_key": PEM, "private_key_id": "k1"}
    path = folder / "key.json"
    path.write_text(json.dumps(document | {"token_uri": f"http://127.0.0.1:{port}/token"} | changes))
    return f"file:{path}"


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_a_service_account_signs_for_its_token(server: TokenServer, tmp_path: Path) -> None:
    tokens = google_tokens(key_file(tmp_path, server.port), environ={}, clock=StepClock())
    assert await tokens.headers() == [("authorization", "Bearer token-1")]
    head, claims, signature = server.asked[0]["assertion"].split(".")
    KEY.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    told = json.loads(decoded(claims))
    assert told["iss"] == "me@example.org"
    assert told["exp"] - told["iat"] == 3600
    assert told["iat"] == 1_700_001_000
    await tokens.close()


async def test_a_token_is_kept_until_shortly_before_it_ends(server: TokenServer, tmp_path: Path) -> None:
    clock = StepClock()
    tokens = google_tokens(key_file(tmp_path, server.port), environ={}, clock=clock)
    for now, wanted in ((1000.0, 1), (4000.0, 1), (4481.0, 2), (4482.0, 2)):
        clock.now = now
        await tokens.headers()
        assert len(server.asked) == wanted
    await tokens.close()


async def test_the_machine_gives_a_token(server: TokenServer) -> None:
    environ = {"GCE_METADATA_HOST": f"127.0.0.1:{server.port}"}
    tokens = google_tokens("instance", environ=environ, clock=StepClock())
    assert await tokens.headers() == [("authorization", "Bearer token-1")]
    assert server.asked[0]["flavor"] == "Google"
    await tokens.close()


async def test_a_users_file_asks_with_its_refresh_token(server: TokenServer, tmp_path: Path) -> None:
    reference = key_file(tmp_path, server.port, type="authorized_user", client_id="i", client_secret="s", refresh_token="r")
    tokens = google_tokens(reference, environ={}, clock=StepClock())
    await tokens.headers()
    assert (server.asked[0]["grant_type"], server.asked[0]["refresh_token"]) == ("refresh_token", "r")
    await tokens.close()


@pytest.mark.parametrize(("status", "error"), [(400, AccessDenied), (403, AccessDenied)])
async def test_refused_credentials_are_access_denied(
    server: TokenServer, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    server.status = status
    tokens = google_tokens(key_file(tmp_path, server.port), environ={}, clock=StepClock())
    with pytest.raises(error):
        await tokens.headers()
    await tokens.close()


async def test_a_token_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    tokens = google_tokens(key_file(tmp_path, 1), environ={}, clock=StepClock())
    with pytest.raises(Unavailable):
        await tokens.headers()
    await tokens.close()


async def test_anonymous_sends_no_token() -> None:
    tokens = google_tokens("anonymous", environ={}, clock=StepClock())
    assert await tokens.headers() == []
    await tokens.close()


@pytest.mark.parametrize("reference", ["", "env:NOT_SET", "file:/does/not/exist", "secret", "profile:x"])
def test_credentials_that_are_not_there_are_named(reference: str) -> None:
    with pytest.raises(SettingsError):
        google_tokens(reference, environ={}, clock=SystemClock())


@pytest.mark.parametrize("changes", [{"private_key": "no"}, {"type": "external"}, {"token_uri": "http://elsewhere.org/"}])
def test_a_bad_key_file_is_refused_without_showing_it(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        google_tokens(key_file(tmp_path, 1, **changes), environ={}, clock=SystemClock())
    assert "PRIVATE" not in str(caught.value)


async def test_a_bucket_is_needed() -> None:
    with pytest.raises(SettingsError):
        from_spec(MountSpec("/x", store="gs://", credentials="anonymous"), environ={}, clock=SystemClock())

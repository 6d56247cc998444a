"""HTTP by aiohttp: one pooled session per client. Import it where a client opens: aiohttp is slow to load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from stages.llm.secrets import is_secret
from stages.llm.wire import Fault


class Response(NamedTuple):
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Transport:
    """Posts JSON to one URL. The key lives here, and leaves only in the header of a request."""

    def __init__(self, session: aiohttp.ClientSession, url: str, timeout_s: float, secret: bytes | None) -> None:
        self._session, self._url, self._timeout_s, self._secret = session, url, timeout_s, secret

    @classmethod
    def open(cls, base: str, key: str | None, timeout_s: float) -> Self:
        """A session for `base`/chat/completions; call it within the event loop that will use it."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),  # the gate limits, per client
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(30.0, timeout_s)),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(base),
        )
        return cls(session, f"{base}/chat/completions", timeout_s, key.encode() if is_secret(key) else None)

    async def post(self, body: bytes) -> Response | Fault:
        """Send and read to the end; everything that can go wrong on the way is a Fault."""
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                data = await response.read()
                if self._secret is not None and self._secret in data:  # some servers repeat it in error messages
                    data = data.replace(self._secret, b"***")
                return Response(response.status, response.headers, data)
        except TimeoutError:
            return Fault("timeout", f"no complete response within {self._timeout_s:g} s", again=True)
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Fault("connection", f"{type(error).__name__}: {error}", again=True)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, looked up once: aiohttp's own way reads files per request."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)

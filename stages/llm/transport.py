"""HTTP by aiohttp: one pooled session per client. Import it where a client opens: aiohttp is slow to load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from stages.llm.secrets import is_secret
from stages.llm.time_limit import TimeLimit
from stages.llm.wire import Fault

Response = tuple[int, Mapping[str, str], bytes]
"""A complete response: status, headers, body."""


class Transport:
    """Posts JSON to one URL. The key lives here, and leaves only in the header of a request."""

    def __init__(self, session: aiohttp.ClientSession, url: str, timeout_s: float, secret: bytes | None) -> None:
        self._session, self._url, self._timeout_s, self._secret = session, url, timeout_s, secret
        self._limit = TimeLimit(timeout_s)

    @classmethod
    def open(cls, base: str, key: str | None, timeout_s: float) -> Self:
        """A session for `base`/chat/completions; call it within the event loop that will use it."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),  # the gate limits, per client
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(30.0, timeout_s)),  # the total: TimeLimit
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(base),
        )
        return cls(session, f"{base}/chat/completions", timeout_s, key.encode() if is_secret(key) else None)

    async def post(self, body: bytes) -> Response | Fault:
        """Send and read to the end; everything that can go wrong on the way is a Fault."""
        try:
            with self._limit:
                response = await self._session.post(self._url, data=body, allow_redirects=False)
                data = await response.read()  # to the end or not: it lets go of the connection
        except TimeoutError:
            return Fault("timeout", f"no complete response within {self._timeout_s:g} s", again=True)
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Fault("connection", f"{type(error).__name__}: {error}", again=True)
        if self._secret is not None and self._secret in data:  # some servers repeat it in error messages
            data = data.replace(self._secret, b"***")
        return response.status, response.headers, data

    async def close(self) -> None:
        """Close every connection."""
        self._limit.close()
        await self._session.close()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, looked up once: aiohttp's own way reads files per request."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)

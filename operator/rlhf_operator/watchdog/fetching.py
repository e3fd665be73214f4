"""One bounded GET: no redirects, no compression, no more bytes or seconds than allowed."""

import asyncio

import aiohttp

MAXIMUM_BYTES = 2_000_000
"""Twice a page of the trainer's, but for a single step that is longer."""

TIMEOUT_SECONDS = 5.0
"""From the connection to the last byte."""

_CHUNK_BYTES = 65_536

_OK = 200


def new_session() -> aiohttp.ClientSession:
    """Return a session that trusts nothing about the other side, and no proxy of ours."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        trust_env=False,
    )


async def fetch(session: aiohttp.ClientSession, url: str) -> bytes | None:
    """Return the answer's body; None if there is none, or none that is taken."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await _body(session, url)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None


async def _body(session: aiohttp.ClientSession, url: str) -> bytes | None:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != _OK:
            return None
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAXIMUM_BYTES:
                return None
        return bytes(body)

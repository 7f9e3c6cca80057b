"""Whether a child answers: one GET, its status. No client library, so that the supervisor starts at once."""

import asyncio
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 3.0


async def is_ready(url: str) -> bool:
    """Whether `url` answers 200 now; a socket that nobody serves yet is waited at for a few seconds."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request)
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]

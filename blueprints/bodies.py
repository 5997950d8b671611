"""Request bodies as doors read them: whole, and neither compressed nor with a mark in front."""

from __future__ import annotations

import zlib
from codecs import BOM_UTF8

from sanic import Request
from sanic.exceptions import PayloadTooLarge

from core.errors import InvalidRequest, UnknownEncoding

SMALL = 16 * 1024  # bytes: much more than a signature or a report needs
ENCODINGS = ("gzip", "x-gzip", "deflate")  # RFC 9110, 8.4.1
EITHER = zlib.MAX_WBITS | 32  # zlib finds out by itself which of them it is


async def receive(request: Request) -> None:
    """
    Has the body in `request.body`; a second call changes nothing.

    Raises UnknownEncoding, InvalidRequest when it can't be decompressed, PayloadTooLarge before or after that.
    """
    await request.receive_body()
    if "content-encoding" in request.headers:
        encoding = request.headers.pop("content-encoding").strip().lower()
        if encoding in ENCODINGS:
            request.body = _decompressed(request.body, request.app.config.REQUEST_MAX_SIZE)
        elif encoding not in ("identity", ""):
            raise UnknownEncoding(encoding)
    if request.body.startswith(BOM_UTF8):
        request.body = request.body.removeprefix(BOM_UTF8)


def ensure_small(request: Request) -> None:
    """For doors whose bodies are read before anything is known of the sender. Raises PayloadTooLarge."""
    if len(request.body) > SMALL:
        raise PayloadTooLarge


def _decompressed(body: bytes, at_most: int) -> bytes:
    """What it says, of up to so many bytes: a thousand times its own size is possible."""
    stream = zlib.decompressobj(EITHER)
    try:
        plain = stream.decompress(body, at_most + 1)
    except zlib.error:
        raise InvalidRequest("The compressed body is malformed") from None
    if len(plain) > at_most:
        raise PayloadTooLarge
    if body and not stream.eof:
        raise InvalidRequest("The compressed body is malformed")
    return plain

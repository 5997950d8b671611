"""Whether the head of a request can be read in one way only: what two readers read differently hides a request."""

from __future__ import annotations

import re

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEAD = re.compile(_TOKEN + rb" [!-~]++ HTTP/1\.([01])(?:\r\n" + _TOKEN + rb":[\t -~\x80-\xff]*+)*+")
_DECISIVE = re.compile(rb"\r\n(host|content-length|transfer-encoding):[\t ]*+([^\r]*+)", re.IGNORECASE)
_HOST, _LENGTH, _CODING = b"host", b"content-length", b"transfer-encoding"
_FORMS = {
    _HOST: re.compile(rb"[\w.~%!$&'()*+,;=:\[\]-]*+").fullmatch,
    _LENGTH: re.compile(rb"[0-9]++").fullmatch,
    _CODING: re.compile(rb"chunked").fullmatch,
}


def is_sound(head: bytes) -> bool:
    """
    Whether a head, without the empty line after it, is RFC 9112's (sections 2.2, 3, 5 and 6) to the letter.

    So no byte but CRLF ends a line, none but a colon a name, and no line goes on in the next one. There is one Host
    (an HTTP/1.0 client may leave it out) and at most one header that says where the body ends.
    """
    matched = _HEAD.fullmatch(head)
    if matched is None:
        return False
    found = _DECISIVE.findall(head)
    fields = {name.lower(): value.rstrip(b"\t ") for name, value in found}
    if len(fields) < len(found):  # one of them comes twice
        return False
    if matched[1] == b"0":
        counts = _CODING not in fields
    else:
        counts = _HOST in fields and not (_LENGTH in fields and _CODING in fields)
    return counts and all(_FORMS[name](value) for name, value in fields.items())

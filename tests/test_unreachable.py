"""The words for a server that can't be reached."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from core.unreachable import why


class TestWhy:
    @pytest.mark.parametrize(
        ("problem", "words"),
        [
            (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.5', 1)"), "Connection refused"),
            (
                OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 113] ('10.0.0.5', 1)"),
                "Connection refused",
            ),
            (TimeoutError(), "no answer in time"),
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
            (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "TLS: "),
            (ValueError("http://10.0.0.5/key is no URL"), "ValueError"),
            (OSError("10.0.0.5"), "OSError"),
        ],
    )
    def test_names_no_address(self, problem: Exception, words: str) -> None:
        assert why(problem).startswith(words)
        assert "10.0.0.5" not in why(problem)

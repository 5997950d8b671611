"""Why a server can't be reached, in words that hold no address of it: URLs carry keys."""

from __future__ import annotations

import os
import socket
import ssl


def why(problem: BaseException) -> str:
    """A few words, such as "Connection refused"; the name of its type for what is not known here."""
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate: {problem.verify_message}"
    if isinstance(problem, ssl.SSLError):  # whose number is none of the system's
        return f"TLS: {problem.reason}"
    if isinstance(problem, socket.gaierror):
        return str(problem.strerror)
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno)  # asyncio puts the address into its own text
    return type(problem).__name__

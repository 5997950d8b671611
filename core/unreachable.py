"""Why a server can't be reached, in words that hold no address of it: URLs carry keys."""

from __future__ import annotations

import os
import re
import socket
import ssl

NUMBER = re.compile(r"\[Errno (\d+)\]")


def why(problem: BaseException) -> str:
    """A few words, such as "Connection refused"; the name of its type for what is not known here."""
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate: {problem.verify_message}"
    if isinstance(problem, ssl.SSLError):  # whose number is none of the system's
        return f"TLS: {getattr(problem, 'reason', None) or 'it fails'}"
    if isinstance(problem, socket.gaierror):
        return str(problem.strerror)
    if isinstance(problem, OSError) and (number := _number(problem)):
        return os.strerror(number)  # asyncio puts the address into its own text
    return type(problem).__name__


def _number(problem: OSError) -> int:
    """The system's; of a host with several addresses that of the first, which only the text has."""
    found = NUMBER.search(str(problem))
    return problem.errno or (int(found[1]) if found else 0)

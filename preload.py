"""
What the fork server loads before it forks: every process of one command begins as its copy.

Memory that nobody writes to stays shared by all of them, and a worker that died is back without loading anything. No
wallet's key is in it: main takes them out of the environment before the fork server starts.
"""

from __future__ import annotations

import gc

import workers.processes  # noqa: F401 - with Sanic's server; a copy needs it first of all
from app import load_web
from workers.tie import tie_fork_server

tie_fork_server()
load_web()
gc.collect()
gc.freeze()  # a collection in a copy would write to all of it, and so unshare it

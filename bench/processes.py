"""Processes that the benchmark starts: each pinned to its cores, with what its whole tree used."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "bench" / ".build"
PEER_CORE, LOAD_CORE = 0, min(1, (os.cpu_count() or 1) - 1)
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent dies
STOP_S = 15
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Used:
    """What a process tree has used so far: CPU in seconds, Redis' own apart, and resident memory in bytes."""

    cpu_s: float
    redis_s: float
    rss: int


@contextmanager
def started(command: Sequence[str], cores: Sequence[int], log: Path, environ: Mapping[str, str] = {}) -> Iterator[int]:
    """Runs the command on these cores, in a session of its own, and gives its pid; ends it however the block ends."""
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned,
            cwd=ROOT,
            env={"PATH": PATH, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - the benchmark has one thread
        )
    try:
        yield process.pid
    finally:
        _stop(process)


def built(name: str) -> str:
    """The path of bench/native/<name>.c, compiled when it is newer than its binary."""
    source, binary = ROOT / "bench" / "native" / f"{name}.c", BUILD / name
    BUILD.mkdir(exist_ok=True)
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", str(binary), str(source)], check=True)
    return str(binary)


def used(pid: int) -> Used:
    """What the process and all that descend from it have used."""
    alive = _tree(pid).values()
    redis = [stat for stat in alive if stat.name == "redis-server"]
    own = [stat for stat in alive if stat.name != "redis-server"]
    return Used(sum(stat.cpu_s for stat in own), sum(stat.cpu_s for stat in redis), sum(stat.rss for stat in own))


@dataclass(frozen=True)
class Memory:
    """Of one process, in bytes: now, and at most so far."""

    rss: int
    peak: int


def listener(pid: int, port: int) -> Memory:
    """The memory of the process below `pid` that listens on the port of 127.0.0.1: a gateway's web worker."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    (worker,) = [member for member in _tree(pid).keys() - {pid} if sockets & _open_files(member)]
    lines = (line.split() for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    kb = {line[0]: int(line[1]) for line in lines if line and line[0] in ("VmRSS:", "VmHWM:")}
    return Memory(kb["VmRSS:"] * 1024, kb["VmHWM:"] * 1024)


def _listening(port: int) -> list[str]:
    """The inodes of the sockets that listen there, by proc(5)'s net/tcp."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[9] for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"]


def _open_files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return found


@dataclass(frozen=True)
class _Stat:
    name: str
    parent: int
    cpu_s: float
    rss: int


def _tree(pid: int) -> dict[int, _Stat]:
    """The process and all that descend from it."""
    stats = {
        int(entry.name): stat for entry in Path("/proc").iterdir() if entry.name.isdigit() and (stat := _stat(entry))
    }
    tree: set[int] = set()
    found = {pid}
    while found:
        tree |= found
        found = {child for child, stat in stats.items() if stat.parent in tree} - tree
    return {member: stats[member] for member in tree if member in stats}


def _stat(entry: Path) -> _Stat | None:
    """One line of proc(5)'s stat; None when the process has just ended."""
    try:
        head, _, tail = (entry / "stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, and those of children that have ended
    return _Stat(head.partition("(")[2], int(fields[1]), ticks * TICK_S, int(fields[21]) * PAGE_BYTES)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end and waits; whatever of its session is there then is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

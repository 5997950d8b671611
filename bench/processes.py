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


@dataclass(frozen=True)
class Used:
    """
    What a process tree has used so far: CPU in seconds, Redis' own apart, and memory in bytes.

    Memory that processes share counts once (Pss of proc(5)).
    """

    cpu_s: float
    redis_s: float
    memory: int


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
    alive = _tree(pid)
    own = {member: stat.cpu_s for member, stat in alive.items() if stat.name != "redis-server"}
    redis_s = sum(stat.cpu_s for member, stat in alive.items() if member not in own)
    return Used(sum(own.values()), redis_s, sum(_kb(member, "smaps_rollup", "Pss:") for member in own) * 1024)


def listener(pid: int, port: int) -> int:
    """The process below `pid` that listens on the port of 127.0.0.1: a gateway's web worker."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    (worker,) = [member for member in _tree(pid).keys() - {pid} if sockets & _open_files(member)]
    return worker


def resident(pid: int) -> int:
    """What one process has in memory, shared or not, in bytes."""
    return _kb(pid, "status", "VmRSS:") * 1024


def resident_at_most(pid: int) -> int:
    """The same, at its peak so far."""
    return _kb(pid, "status", "VmHWM:") * 1024


def _kb(pid: int, file: str, key: str) -> int:
    """A figure of one of a process' files in proc(5); 0 when the process has just ended."""
    with suppress(OSError):
        lines = map(str.split, Path(f"/proc/{pid}/{file}").read_text().splitlines())
        return next(int(line[1]) for line in lines if line and line[0] == key)
    return 0


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
    return _Stat(head.partition("(")[2], int(fields[1]), ticks * TICK_S)


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

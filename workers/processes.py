"""
The gateway's processes: web workers and the background worker, started, watched and ended by one main process.

Sanic's own process table and start-up are used as they are; what its 25.12 release does wrong at a platform that
restarts often is done here instead. Each repair names what it repairs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import current_process, forkserver, get_context, resource_tracker
from pathlib import Path
from signal import SIGKILL, SIGTERM, signal
from types import FrameType
from typing import Any

from sanic import Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP
from sanic.worker.loader import AppLoader
from sanic.worker.manager import WorkerManager
from sanic.worker.process import Worker
from sanic.worker.serve import worker_serve

from workers.backoff import Backoff
from workers.listeners import refuse
from workers.signals import STOP_SIGNALS, held, on_first_stop
from workers.tie import tie_to_main

BACKLOG = 1024  # connections that wait to be accepted, for each worker
LOOK_S = 0.1  # how often main looks after its processes
SETTLE_S = 0.05
KILL_S = 3.0  # from SIGKILL on

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebServer:
    """What each web worker's process serves; it travels to new processes."""

    create_app: Callable[[], Sanic[Any, Any]]  # whose `ctx` names the `protocol` and the set of its `connections`
    meeting: Path  # where the workers meet, told to the app as `ctx.meeting`


class ProcessManager(WorkerManager):
    """
    One web worker for each listening socket, besides what is added by `manage`.

    All processes are forked by multiprocessing's fork server, which has imported the module `preload`.

    From its construction on, a stop signal to this process means: end all of them well. Each further one is
    ignored: platforms signal more than once and whole process groups (Sanic kills all at the second one).
    """

    def __init__(
        self,
        web: WebServer,
        listeners: list[socket.socket],
        grace_s: float,
        ready: Callable[[], None],
        preload: str,
    ) -> None:
        self._listeners = listeners
        self._unassigned = iter(listeners)
        self._grace_s = grace_s
        self._on_ready = ready
        self._ready: set[str] = set()
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._failed = False
        context = get_context("forkserver")
        context.set_forkserver_preload([preload])
        current_process()._config["tempdir"] = str(web.meeting)  # type: ignore[attr-defined] # noqa: SLF001 - for its socket
        inbox, outbox = context.Pipe(duplex=False)
        states: dict[str, Any] = {}  # each child gets a copy and only writes to it: main needs no more than the pipe
        settings = {
            "host": None,
            "port": None,
            "app_name": "",
            "app_loader": AppLoader(factory=web.create_app),
            "monitor_publisher": outbox,
            "worker_state": states,
            "backlog": BACKLOG,
            "register_sys_signals": False,
            "meeting": web.meeting,
        }
        super().__init__(len(listeners), serve_web, settings, context, (outbox, inbox), states)
        for number in STOP_SIGNALS:
            signal(number, self.shutdown_signal)

    def create_server(self) -> Worker:
        """One web worker with a socket of its own: a shared one is drained unevenly, by whoever wakes first."""
        self._server_settings = {**self._server_settings, "sock": next(self._unassigned)}
        return super().create_server()

    def run(self) -> int:
        """Starts all, watches them, ends them after a stop signal; the exit code is 0 when all of it went well."""
        self.start()
        self.monitor()
        self.shutdown()
        self.join()
        return int(self._failed)

    def start(self) -> None:
        resource_tracker.ensure_running()  # its first start would let held signals through
        for process in self._all():
            if not self._shutting_down:
                self._launch(process.name, process.start)

    def monitor(self) -> None:
        """
        Until a stop signal: notes who is ready, restarts who ended.

        Sanic waits for the workers' acknowledgements first, and for ever when it is stopped meanwhile (sanic#2997);
        a process that died is marked as failed and left so (sanic#3062).
        """
        while not self._shutting_down:
            if self.monitor_subscriber.poll(LOOK_S):
                self._note(self.monitor_subscriber.recv())
            for process in self._all():
                if not process.is_alive() and not self._shutting_down:
                    self._revive(process)

    def shutdown_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two steps of main, so it only leaves word."""
        if not self._shutting_down:
            self._shutting_down = True
            self.monitor_publisher.send(None)

    def shutdown(self) -> None:
        """
        Refuses new connections.

        Sanic keeps its copy of the listening socket open: the kernel goes on accepting what nobody will serve.
        """
        for listener in self._listeners:
            refuse(listener)

    def join(self) -> None:
        """
        Asks all to end until they have; who has not within the grace is killed (Sanic waits for ever).

        They are asked again and again, which changes nothing for those that heard it: a worker that is just starting
        loses a pending signal when Sanic ignores signals for a moment.
        """
        deadline = time.monotonic() + self._grace_s
        while any(process.is_alive() for process in self._all()):
            late_s = time.monotonic() - deadline
            late = late_s > 0
            if late_s > KILL_S:
                _kill_fork_server()  # a frozen one can't tell that they are dead
            if late and not self._failed:
                log.error("some processes did not end in time and are killed")
            self._failed = self._failed or late
            self._signal_all(SIGKILL if late else SIGTERM)
            time.sleep(LOOK_S)

    def _all(self) -> list[Any]:
        return [process for worker in self.workers for process in worker.processes]

    def _launch(self, name: str, start: Callable[[], None]) -> None:
        """The process of that name. Raises OSError and EOFError when the fork server is not there to fork it."""
        self._started[name] = time.monotonic()
        with held():
            start()

    def _note(self, message: object) -> None:
        """A web worker that is ready sends its name; Sanic's own messages are not used here."""
        servers = {process.name for process in self.transient_processes}
        if message not in servers or self._is_up():
            return
        self._ready.add(str(message))
        if self._is_up():
            self._on_ready()

    def _is_up(self) -> bool:
        return len(self._ready) == self.num_server

    def _revive(self, process: Any) -> None:
        name = process.name
        if name not in self._due:
            lived_s = time.monotonic() - self._started[name]
            self._due[name] = time.monotonic() + self._backoffs.setdefault(name, Backoff()).after(lived_s)
            log.error("%s ended by itself (exit code %s)", name, process.exitcode)
            self._send_clients_elsewhere(process)
            self._give_up_if_never_ready(process)
        elif time.monotonic() >= self._due[name]:
            del self._due[name]
            try:
                self._launch(name, process.restart)
            except (OSError, EOFError) as problem:  # it is as dead as before, and will be seen so
                log.error("%s can't be started: %s", name, problem)  # noqa: TRY400 - main has no traces for operators

    def _send_clients_elsewhere(self, process: Any) -> None:
        """New connections go to the other workers; without any others they wait in the queue for the restart."""
        if process in self.transient_processes and self.num_server > 1:
            refuse(process.kwargs["sock"])

    def _give_up_if_never_ready(self, process: Any) -> None:
        """A release whose web workers can't even start must fail, so that the platform keeps the former one."""
        if not self._is_up() and process in self.transient_processes:
            self._failed = self._shutting_down = True

    def _signal_all(self, number: int) -> None:
        """One by one: Sanic kills process groups, and with them the shell or test that started it."""
        for process in self._all():
            if process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def serve_web(**settings: Any) -> None:
    """The body of a web worker's process, from the first line to its exit."""
    tie_to_main()
    app: Sanic[Any, Any] = settings.pop("app_loader").load()
    app.ctx.meeting = settings.pop("meeting")
    app.after_server_start(partial(_announce, settings["monitor_publisher"]))
    app.before_server_stop(partial(_stop_listening, settings["sock"]))
    app.state.server_info.append(ApplicationServerInfo({"version": HTTP.VERSION_1}))  # else it counts as not started
    own = {"app_name": app.name, "protocol": app.ctx.protocol, "connections": app.ctx.connections}
    worker_serve(**{**settings, **own, "app_loader": None})


def _kill_fork_server() -> None:
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # noqa: SLF001 - it has no public name
    with suppress(ProcessLookupError):
        os.kill(pid, SIGKILL)


async def _announce(publisher: Any, app: Sanic[Any, Any]) -> None:
    """
    Tells main, and takes stop signals from here on.

    A little later, since ending the loop inside this listener would break the start: Sanic counts on its loop to
    run to the end of it. Sanic's own handlers end the loop at each signal, also in the middle of the drain.
    """
    loop = asyncio.get_running_loop()
    stop = partial(app.stop, terminate=False)
    loop.call_later(SETTLE_S, on_first_stop, partial(loop.call_soon_threadsafe, stop))
    publisher.send(current_process().name)


async def _stop_listening(listener: socket.socket, _: Sanic[Any, Any]) -> None:
    """Also when this worker alone was stopped: main's copy of the socket would keep its share of clients waiting."""
    refuse(listener)

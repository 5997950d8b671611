"""What handlers are given besides their request: sanic-ext's injection, decided once for each route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import isawaitable, isfunction, signature
from typing import Any, get_type_hints

from sanic import Request, Sanic
from sanic_ext import Extend
from sanic_ext.config import PRIORITY
from sanic_ext.extensions.injection.extension import InjectionExtension
from sanic_ext.extensions.injection.registry import ConstantRegistry, InjectionRegistry

from blueprints.bodies import receive

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The arguments of one route's handler: those that all requests share, and makers of the others."""

    services: dict[str, Any]
    guards: dict[str, Callable[[Request], Any]]

    def applied(self, handler: Handler, *, takes_body: bool) -> Handler:
        """The handler as Sanic may call it. The guards come before the body is read."""
        services, guards = self.services, tuple(self.guards.items())

        @wraps(handler)  # Sanic looks for marks on it
        async def serve(request: Request, **arguments: Any) -> Any:
            for name, guard in guards:
                made = guard(request)
                arguments[name] = await made if isawaitable(made) else made
            if takes_body:
                await receive(request)
            answer = handler(request, **arguments, **services)
            return await answer if isawaitable(answer) else answer

        return serve


class PlannedInjection(InjectionExtension):  # type: ignore[no-untyped-call] # sanic-ext leaves it so
    """
    Handlers name by type what they want: a service, or what a guard (a function of the request) makes of a request.

    sanic-ext by itself looks all of it up for each request, which costs a short answer a tenth of its time.
    """

    name = "planned"

    def startup(self, bootstrap: Extend) -> None:
        """Called by sanic-ext, whose `add_dependency` and `dependency` go on as ever."""
        self.registry = InjectionRegistry()  # type: ignore[no-untyped-call]
        bootstrap._injection_registry = self.registry  # noqa: SLF001 - as the base class does
        self.constant_registry = bootstrap._constant_registry = ConstantRegistry(self.app.config)  # noqa: SLF001
        self.app.before_server_start(self._apply_plans, priority=PRIORITY)  # when the services are there

    async def _apply_plans(self, app: Sanic) -> None:
        for route in app.router.routes:
            if isfunction(route.handler):  # Sanic wraps those of WebSockets: they get their request only
                plan = self._plan(get_type_hints(route.handler))
                takes_body = not (route.extra.ignore_body or hasattr(route.handler, "is_stream"))
                route.handler = plan.applied(route.handler, takes_body=takes_body)
                if takes_body:
                    route.extra.ignore_body = True  # by Sanic, which reads it before the caller is known

    def _plan(self, hints: dict[str, Any]) -> _Plan:
        makers = {name: self.registry[kind].func for name, kind in hints.items() if kind in self.registry}
        guards = {name: make for name, make in makers.items() if "request" in signature(make).parameters}
        return _Plan({name: make() for name, make in makers.items() if name not in guards}, guards)

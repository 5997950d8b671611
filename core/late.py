"""Imports that wait until something of the module is used, or that are left out."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    """The standard library's LazyLoader is no help: since each `import` looks at a module's spec, it loads there."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment] # a plain module from here on
        if self.__spec__ is not None and self.__spec__.loader is not None:
            if self.__spec__.submodule_search_locations is not None:
                self.__path__ = self.__spec__.submodule_search_locations
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def import_late(*names: str) -> None:
    """Has packages that were not imported yet loaded at their first use; an `import` before that costs nothing."""
    for name in names:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            module = sys.modules[name] = module_from_spec(spec)
            vars(module).pop("__path__", None)  # an import of a part asks for it first, and so loads the package before
            module.__class__ = _Late


def leave_out(name: str, *members: str) -> None:
    """Has an import of the module, unless it is there already, find these members, empty classes, and nothing else."""
    if name not in sys.modules:
        module = sys.modules[name] = ModuleType(name, "Left out.")
        vars(module).update({member: type(member, (), {}) for member in members})

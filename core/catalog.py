"""The models that users may ask for, as the catalogue file says."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from core.errors import UnknownModel

EXAMPLE = "Example: MODELS_FILE=/etc/plumise/models.toml"
DEFAULT = "default"  # what plumise-mcp asks for when its user names no model


class Tier(StrEnum):
    """What a user has paid for, and who may use a model."""

    FREE = "free"
    PRO = "pro"


Name = Annotated[str, Meta(min_length=1)]
Length = Annotated[int, Meta(ge=1)]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the catalogue; lengths are in tokens."""

    id: Name
    name: Name
    description: str
    tier: Tier
    max_tokens: Length
    context_length: Length
    default_max_tokens: Length = 512
    aliases: tuple[Name, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What nodes may call it."""
        return (self.id, *self.aliases)


class InvalidCatalog(Exception):
    """The catalogue file can't be read, or does not follow its form."""


class Catalog:
    """The models in the order of the file."""

    def __init__(self, models: list[Model]) -> None:
        self._models = {model.id: model for model in models}
        self._by_name = {name.casefold(): model for model in models for name in model.names}

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads a TOML catalogue. Raises InvalidCatalog with its variable, the file's name and what is wrong."""
        try:
            listed = tomllib.loads(path.read_text("utf-8")).get("models", [])
            models = msgspec.convert(listed, list[Model])
        except OSError as problem:
            raise _invalid(path, f"can't be read: {problem.strerror}") from problem
        except UnicodeDecodeError as problem:
            raise _invalid(path, "can't be read: it is not UTF-8") from problem
        except tomllib.TOMLDecodeError as problem:
            raise _invalid(path, str(problem)) from problem
        except msgspec.ValidationError as problem:
            raise _invalid(path, str(problem).replace("`$[", "`models[")) from problem
        if not models:
            raise _invalid(path, "it has no [[models]] table")
        if len({name.casefold() for model in models for name in model.names}) < sum(len(m.names) for m in models):
            raise _invalid(path, "two models share an id or alias")
        return cls(models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def require(self, model_id: str) -> Model:
        """The model with exactly this id. Raises UnknownModel."""
        try:
            return self._models[model_id]
        except KeyError:
            raise UnknownModel(model_id) from None

    def chosen(self, model_id: str, is_served: Callable[[str], bool]) -> Model:
        """
        The model of a request. Raises UnknownModel.

        "default" is the first Free model that nodes serve now, or the first one at all when none is served.
        """
        free = [model for model in self if model.tier is Tier.FREE]
        if model_id != DEFAULT or DEFAULT in self._models or not free:
            return self.require(model_id)
        return next((model for model in free if is_served(model.id)), free[0])

    def named(self, name: str) -> Model | None:
        """The model that a node or a path means by a name, in any letter case; None for a stranger."""
        return self._by_name.get(name.casefold())


def _invalid(path: Path, problem: str) -> InvalidCatalog:
    return InvalidCatalog(f"MODELS_FILE: {path}: {problem}. {EXAMPLE}")

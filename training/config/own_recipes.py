"""Recipes of one's own: ``NAME.yaml`` in the folder RANKING_RECIPES, a recipe with changes.

base: wukong-small
training: {dense_learning_rate: 0.001, cold_epochs: 3}
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import yaml
from pydantic import Field

from features.environment import Environment, Group
from training.config.recipe import Recipe, recipe_from_dict

_SUFFIX = ".yaml"
_BASE = "base"


class OwnRecipes(Group):
    """Where recipes are that the repository does not have."""

    folder: Path = Field(default=Path(), validation_alias="RANKING_RECIPES")
    """Folder of recipes of one's own: `NAME.yaml` names the `base` that it changes, and what it
    changes in `model`, `training` and `sharding`."""

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """The folder, where one is named; ValueError where it is none."""
        found = super().from_environment(environment)
        if not found.folder.is_dir():
            raise ValueError(f"RANKING_RECIPES: {found.folder} is no folder")
        return found

    @property
    def names(self) -> list[str]:
        """The recipes of the folder; none where no folder is named."""
        if "folder" not in self.model_fields_set:
            return []
        return sorted(path.stem for path in self.folder.glob(f"*{_SUFFIX}"))

    def read(self, name: str, base_of: Callable[[str], Recipe]) -> Recipe:
        """A recipe of the folder.

        Args:
            name: One of ``names``.
            base_of: The recipe of a name that the repository has.

        Raises:
            ValueError: The file is wrong; the message has its path, the field and the value.
        """
        path = self.folder / f"{name}{_SUFFIX}"
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
            known = base_of(_base(given)).to_dict()
            del given[_BASE]
            return recipe_from_dict({**_changed(known, given), "name": name})
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"recipe {path}: {error}") from error


def _base(given: object) -> str:
    base = given.get(_BASE) if isinstance(given, dict) else None
    if not isinstance(base, str):
        raise ValueError(f"{_BASE}: {base!r}; a recipe's name must be there")  # noqa: TRY004
    return base


def _changed(
    known: Mapping[str, object], given: Mapping[str, object], at: str = ""
) -> dict[str, object]:
    """The known values, with those that are given in their place."""
    if unknown := sorted(set(given) - (set(known) - {"name"} if not at else set(known))):
        raise ValueError(f"{at}{unknown[0]}: no such field; {sorted(known)}")
    found = dict(known)
    for name, value in given.items():
        before = known[name]
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _changed(before, value, f"{at}{name}.")
        found[name] = value
    return found

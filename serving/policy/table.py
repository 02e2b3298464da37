"""The policy table, ``infra/policy.yaml``: which findings lead to what."""

import enum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from features.datasets.schema_files.entry import Entry
from features.datasets.schema_files.marked_yaml import MarkedYaml
from features.datasets.schema_files.problems import problem_of

Signal = Literal["parity", "freshness", "quality", "drift"]
"""What a monitor says something about."""
SIGNALS: tuple[Signal, ...] = ("parity", "freshness", "quality", "drift")


class Action(enum.StrEnum):
    """What follows."""

    ALERT = "alert"
    """A person is to look; no model is changed."""
    ROLL_BACK = "roll-back"
    """The version that is broken gives way to the one before it."""
    RETRAIN = "retrain"
    """A new training is asked for."""
    NOTHING = "nothing"


_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class Row(Entry):
    """One rule: it holds when one of its signals is broken."""

    name: _Name
    words: Annotated[str, Field(min_length=1)]
    """Why this follows from that."""
    when: list[Signal]
    """The row holds when one of these is broken; empty: always."""
    windows: int = Field(default=1, ge=1)
    """Of ``quality``: how many days in a row a version must be broken."""
    min_requests: int = Field(default=0, ge=0)
    """Of ``quality``: requests that each of these days must have."""
    known: list[Signal] = Field(default=[])
    """Signals without which the action waits."""
    then: Literal["alert", "roll-back", "retrain", "nothing"]
    at_most_every_days: int = Field(default=0, ge=0)
    """Days of the log between two actions of the row; 0: no limit."""
    runbook: _Name | None = None
    """Page of ``infra/runbooks`` that its alert names."""

    @property
    def action(self) -> Action:
        """What follows."""
        return Action(self.then)

    @model_validator(mode="after")
    def _can_act(self) -> Self:
        if self.then != "nothing" and not self.runbook:
            raise PydanticCustomError("runbook", "needs a runbook: its alert names the page")
        if self.then == "roll-back" and self.when != ["quality"]:
            raise PydanticCustomError(
                "when", "roll-back: when must be [quality], which names the version that is broken"
            )
        return self


class Policy(Entry):
    """The whole table."""

    rows: list[Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        names = [row.name for row in self.rows]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PydanticCustomError("name", f"rows: two have the name {twice[0]}")
        if self.rows[-1].when or any(not row.when for row in self.rows[:-1]):
            raise PydanticCustomError(
                "when", "rows: the last one, and no other, holds always (when: [])"
            )
        return self


def read_policy(path: Path) -> Policy:
    """The table of a file.

    Raises:
        SchemaFileError: It cannot be read, or a value may not be: names file, line, key and value.
    """
    marked = MarkedYaml(path)
    try:
        return Policy.model_validate(marked.data)
    except ValidationError as error:
        raise marked.error([problem_of(one) for one in error.errors()]) from error

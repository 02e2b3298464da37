"""The objectives of ``infra/slo.yaml``: what is promised, how it is measured, what to do.

The file is the one source of alerts, of the dashboard of objectives and of their page.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from features.datasets.schema_files.entry import Entry

FILE = Path(__file__).resolve().parents[1] / "slo.yaml"
WINDOW = "[window]"
"""In the expressions of a share: the range over which it is taken."""
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_ROUNDING = 1e-9
_DURATION = r"^[1-9][0-9]*[smhd]$"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
Words = Annotated[str, Field(min_length=1)]
Duration = Annotated[str, Field(pattern=_DURATION)]
"""A number and a unit, as Prometheus writes it: ``36h``."""
Severity = Literal["page", "ticket"]


def seconds_of(duration: str) -> int:
    """The seconds of a duration such as ``36h``."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


class Objective(Entry):
    """What all objectives have."""

    name: Name
    """Of the alert."""
    words: Words
    """What is wrong when the alert fires, for whoever reads it; may name {{ .Labels.model }}."""
    by: list[Name] = Field(default=[])
    """Labels that the indicator keeps: there is an alert for each of their values."""
    severity: Severity
    """page: somebody acts now; ticket: somebody acts on the next working day."""
    for_: Duration | None = Field(default=None, alias="for")
    """How long it must be so; without it, once is enough."""
    runbook: Name
    """Page of ``infra/runbooks``, without its ending."""

    @property
    def plain_words(self) -> str:
        """The words without what an alert fills in: the names of labels."""
        return re.sub(r"{{ \.Labels\.(\w+) }}", r"(\1)", self.words)


class Limit(Objective):
    """A value that stays within a limit, such as an age."""

    indicator: Words
    """The value, in PromQL."""
    at_most: Words | float | int | None = None
    """A number, a duration of which the seconds count, or a PromQL expression with the labels."""
    at_least: float | int | None = None
    unit: Literal["s", "percentunit", "none"] = "none"
    """Of the value, as Grafana names it."""
    deadline: bool = False
    """Whether it is also a deadline of each daily run in Airflow: so long after the begin of its
    day's interval, at which the newest day that is done ended."""

    @model_validator(mode="after")
    def _has_one_limit(self) -> Self:
        given = {"at_most": self.at_most, "at_least": self.at_least}
        if sum(value is not None for value in given.values()) != 1:
            raise PydanticCustomError("limit", "needs exactly one of at_most and at_least")
        text = self.at_most if isinstance(self.at_most, str) else ""
        if text and not self._is_duration and "(" not in text:
            raise PydanticCustomError(
                "at_most",
                f"at_most: {text!r}; expected a number, a duration such as 36h, or PromQL with a (",
            )
        if self.deadline and not self._is_duration:
            raise PydanticCustomError(
                "deadline", "deadline: needs at_most with a duration, such as 36h"
            )
        return self

    @property
    def _is_duration(self) -> bool:
        return isinstance(self.at_most, str) and bool(re.match(_DURATION, self.at_most))

    @property
    def limit(self) -> str:
        """The limit as PromQL has it."""
        value = self.at_least if self.at_most is None else self.at_most
        if self._is_duration:
            return str(seconds_of(str(value)))
        return value if isinstance(value, str) else f"{value:g}"

    @property
    def limit_words(self) -> str:
        """The limit for people."""
        return f"at least {self.at_least:g}" if self.at_most is None else f"at most {self.at_most}"


class Share(Objective):
    """A share of events that are good, over a window; it may be missed by its error budget."""

    bad: Words
    """Rate of the bad events, in PromQL, over the range ``[window]``."""
    all: Words
    """Rate of all events."""
    target: float = Field(gt=0, lt=1)
    """Share of good events."""
    window: Duration
    """Over which the target is to be reached."""

    @model_validator(mode="after")
    def _is_over_a_window(self) -> Self:
        for key in ("bad", "all"):
            if WINDOW not in getattr(self, key):
                raise PydanticCustomError("window", f"{key}: must have a range {WINDOW}")
        return self

    def over(self, window: str) -> str:
        """The share of bad events over a range, in PromQL."""
        bad, total = (text.strip().replace(WINDOW, f"[{window}]") for text in (self.bad, self.all))
        return f"({bad}) / ({total})"


class BurnRate(Entry):
    """How fast an error budget may be spent before there is an alert."""

    factor: float | int = Field(gt=0)
    """1 spends the budget in exactly its window."""
    long: Duration
    """It was spent so fast over this range,"""
    short: Duration
    """and still is over this one."""
    severity: Severity


_KINDS = ("share", "limit")


def _kind(value: object) -> str:
    """Which kind of objective a mapping is."""
    keys = {"bad", "all", "target"}
    is_share = isinstance(value, Share) or (isinstance(value, dict) and bool(keys & value.keys()))
    return "share" if is_share else "limit"


AnyObjective = Annotated[
    Annotated[Share, Tag("share")] | Annotated[Limit, Tag("limit")], Discriminator(_kind)
]


class Group(Entry):
    """Objectives of one part of the system."""

    name: Name
    title: Words
    objectives: list[AnyObjective] = Field(min_length=1)


class Objectives(Entry):
    """The whole file."""

    runbooks: Annotated[str, Field(pattern=r"^(https?://)?\S+/$")]
    """Where the pages of runbooks are read: a folder of the repository, or of a site."""
    burn_rates: list[BurnRate] = Field(min_length=1)
    groups: list[Group] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        names = [one.name for one in self.all()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PydanticCustomError("name", f"name {twice[0]}: there are two objectives of it")
        fastest = max(rate.factor for rate in self.burn_rates)
        for one in self.all():
            # Not equal either: an alert compares by "greater than".
            if isinstance(one, Share) and fastest * (1 - one.target) > 1 - _ROUNDING:
                raise PydanticCustomError(
                    "target",
                    f"objective {one.name}: target {one.target:g}: above {1 - 1 / fastest:.3g}, "
                    f"or {fastest:g} times its budget is more than all events",
                )
        return self

    def all(self) -> list[Share | Limit]:
        """The objectives of all groups."""
        return [one for group in self.groups for one in group.objectives]


def parse(text: str) -> Objectives:
    """Read the objectives from YAML.

    Raises:
        ValueError: No YAML, or a value that may not be: names its key, the value and the limit.
    """
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{FILE.name}: not YAML: {error}") from error
    try:
        return Objectives.model_validate(table)
    except ValidationError as error:
        found = [_problem(table, one["loc"], one["input"], one["msg"]) for one in error.errors()]
        raise ValueError(f"{FILE.name}: " + "; ".join(found)) from error


def _problem(table: object, keys: tuple[str | int, ...], value: object, reason: str) -> str:
    """One error, with the names of what it is in instead of their places."""
    where, at = [], table
    for key in keys:
        if key in _KINDS and not (isinstance(at, dict) and key in at):
            continue  # how the objective was read, which is not in the file
        at = _inside(at, key)
        where.append(str(at["name"] if isinstance(at, dict) and "name" in at else key))
    shown = "" if isinstance(value, dict | list) else f": {value!r}"
    return f"{'.'.join(where) or 'the file'}{shown}: {reason}"


def _inside(at: object, key: str | int) -> object:
    """What a mapping or a list has under a key; None where there is nothing."""
    if isinstance(at, dict):
        return at.get(key)
    return at[key] if isinstance(at, list) and isinstance(key, int) else None

"""Which row of the policy holds, and what it leads to. Pure: what it knows is its arguments."""

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence

from serving.policy.table import Action, Policy, Row, Signal


class State(enum.StrEnum):
    """What a monitor says."""

    KEPT = "kept"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """It did not measure, or measured too little."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a monitor says about a day."""

    state: State
    what: str
    """In a sentence, with the figure and its limit."""


@dataclasses.dataclass(frozen=True)
class Window:
    """What final labels say about a version on one day."""

    day: datetime.date
    version: str
    is_broken: bool
    requests: int
    what: str


@dataclasses.dataclass(frozen=True)
class Serving:
    """Which versions answer, and which could."""

    champion: str | None = None
    canary: str | None = None
    previous: str | None = None
    """The champion before; None where there is no way back to one."""
    no_way_back: str = "no champion came before it"
    """Why, where there is none."""

    @property
    def versions(self) -> tuple[str, ...]:
        """Those that answer, the one first whose way back is the shortest."""
        return tuple(filter(None, (self.canary, self.champion)))


@dataclasses.dataclass(frozen=True)
class Acted:
    """What an earlier day led to."""

    day: datetime.date
    row: str
    action: Action
    version: str | None = None
    """What gave way, of a roll-back."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What follows from a day."""

    row: str
    action: Action
    why: str
    """The finding, and why something else follows than the row says, where it does."""
    version: str | None = None
    """What gives way, of a roll-back."""
    is_held: bool = False
    """Whether the row's action was due, and something else follows."""
    replay_days: int = 0
    """Days of examples that the training which is asked for is to learn again; 0: none is."""
    runbook: str | None = None


def decide(
    policy: Policy,
    *,
    day: datetime.date,
    findings: Mapping[Signal, Finding],
    windows: Sequence[Window],
    serving: Serving,
    before: Sequence[Acted],
) -> Decision:
    """The decision of the first row that holds.

    Args:
        policy: The table.
        day: The day that was judged.
        findings: Of each signal; of one that is missing nothing is known. What ``quality`` says of
            versions is in ``windows``.
        windows: Of all versions, of this day and of days before.
        serving: Which versions answer.
        before: What earlier days led to.
    """
    windows = [one for one in windows if not _is_used(one, before)]
    for row in policy.rows:
        version, what = _holds(row, findings, windows, serving)
        if what:
            held = _obstacle(row, day, findings, windows, serving, before, version)
            return Decision(
                row=row.name,
                action=_instead(row) if held else row.action,
                why=f"{what}; {row.then} is due, but {held}" if held else what,
                version=None if held else version,
                is_held=bool(held),
                replay_days=0 if held else row.replay_days,
                runbook=row.runbook,
            )
    raise AssertionError("the last row of a policy always holds")


def _is_used(window: Window, before: Sequence[Acted]) -> bool:
    """Whether a version was taken back since: who promotes it again knows of that day."""
    return any(
        one.action is Action.ROLL_BACK and one.version == window.version and window.day <= one.day
        for one in before
    )


def _instead(row: Row) -> Action:
    """What follows where the row's action is held: that a training was asked for is no news."""
    return Action.NOTHING if row.action is Action.RETRAIN else Action.ALERT


def _holds(
    row: Row,
    findings: Mapping[Signal, Finding],
    windows: Sequence[Window],
    serving: Serving,
) -> tuple[str | None, str]:
    """The version, where the row is about one, and why the row holds; empty where it does not."""
    if not row.when:
        return None, row.words
    said = []
    for signal in row.when:
        if signal == "quality":
            for version in serving.versions:
                if broken := _broken(row, version, windows):
                    return version, broken
        elif (found := findings.get(signal)) and found.state is State.BROKEN:
            said.append(f"{signal}: {found.what}")
    return None, "; ".join(said)


def _broken(row: Row, version: str, windows: Sequence[Window]) -> str:
    """Why a version counts as broken; empty where it does not."""
    own = sorted((one for one in windows if one.version == version), key=lambda one: one.day)
    newest = [one for one in own if one.requests >= row.min_requests][-row.windows :]
    if len(newest) < row.windows or not all(one.is_broken for one in newest):
        return ""
    if (newest[-1].day - newest[0].day).days >= 2 * row.windows:
        return ""  # too far apart to be one finding
    days = ", ".join(f"{one.day}: {one.what} ({one.requests:,} requests)" for one in newest)
    return f"quality: version {version} is broken: {days}"


def _obstacle(
    row: Row,
    day: datetime.date,
    findings: Mapping[Signal, Finding],
    windows: Sequence[Window],
    serving: Serving,
    before: Sequence[Acted],
    version: str | None,
) -> str:
    """Why the row's action is not taken; empty where it is."""
    if row.action in {Action.ALERT, Action.NOTHING}:
        return ""
    if unknown := [name for name in row.known if _state(findings, name) is State.UNKNOWN]:
        said = [f"{name} ({findings[name].what})" if name in findings else name for name in unknown]
        return f"it is not known whether this is kept: {', '.join(said)}"
    acted = [one.day for one in before if (one.row, one.action) == (row.name, row.action)]
    if acted and (day - max(acted)).days < row.at_most_every_days:
        return f"there was one on {max(acted)}, and at most one in {row.at_most_every_days} d"
    if row.action is Action.ROLL_BACK and version == serving.champion:
        if serving.previous is None:
            return serving.no_way_back
        if broken := _broken(row, serving.previous, windows):
            return f"so is the one before it: {broken}"
    return ""


def _state(findings: Mapping[Signal, Finding], signal: Signal) -> State:
    return findings[signal].state if signal in findings else State.UNKNOWN

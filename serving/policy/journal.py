"""What each day led to: one JSON file a day, below the reports, and the page of all of them."""

import datetime
import json
from collections.abc import Mapping, Sequence

from features.pages import site
from features.pages.content import Cell, Page, Prose, Table, Tone
from features.places import Place, put_whole
from serving.policy.decision import Acted, Decision, Finding
from serving.policy.table import SIGNALS, Action, Signal

_TONES = {
    Action.ALERT: Tone.UNSURE,
    Action.ROLL_BACK: Tone.BAD,
    Action.RETRAIN: Tone.ACCENT,
    Action.NOTHING: Tone.GOOD,
}
_NEWEST = 60
"""Days on the page."""
_STEPS = {Action.ROLL_BACK, Action.RETRAIN}
"""Actions that change something, of which there may be a limit."""


class Journal:
    """The decisions of one data set."""

    def __init__(self, reports: Place, dataset: str) -> None:
        """Args: the folder of all reports, and whose decisions."""
        self._reports, self._dataset = reports, dataset
        self._folder = reports / dataset / "policy"

    def before(self, day: datetime.date) -> list[Acted]:
        """What changed something on a day and on days before it, runs of the same day included."""
        return [
            Acted(of, run["row"], Action(run["action"]), run["version"])
            for of in self._days()
            if of <= day
            for run in self._runs(of)
            if Action(run["action"]) in _STEPS
        ]

    def has_later(self, day: datetime.date) -> bool:
        """Whether there is a decision about a later day."""
        return bool(self._days()) and self._days()[-1] > day

    def has(self, day: datetime.date) -> bool:
        """Whether there is a decision about a day."""
        return bool(self._file(day).exists())

    def note(
        self,
        day: datetime.date,
        decision: Decision,
        findings: Mapping[Signal, Finding],
        done: Mapping[str, object],
    ) -> str:
        """Keep a decision behind those of earlier runs of its day, and write the page.

        Args:
            day: The day that was judged.
            decision: What follows.
            findings: Of each signal.
            done: What the action came to.

        Returns:
            The page's path below the reports.
        """
        run = {
            "row": decision.row,
            "action": decision.action.value,
            "why": decision.why,
            "version": decision.version,
            "is_held": decision.is_held,
            "done": dict(done),
            "findings": {name: [one.state.value, one.what] for name, one in findings.items()},
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        content = {"date": day.isoformat(), "runs": [*self._runs(day), run]}
        put_whole(self._file(day), (json.dumps(content, indent=1) + "\n").encode())
        return site.write(self._page(), self._reports, f"{self._dataset}/policy/index.html")

    def _file(self, day: datetime.date) -> Place:
        return self._folder / f"{day.isoformat()}.json"

    def _days(self) -> list[datetime.date]:
        if not self._folder.exists():
            return []
        files = (path.name for path in self._folder.iterdir() if path.name.endswith(".json"))
        return sorted(datetime.date.fromisoformat(name.removesuffix(".json")) for name in files)

    def _runs(self, day: datetime.date) -> "list[dict[str, str]]":
        file = self._file(day)
        return list(json.loads(file.read_text())["runs"]) if file.exists() else []

    def _page(self) -> Page:
        days = self._days()[-_NEWEST:]
        rows = [_row(day, self._runs(day)[-1]) for day in reversed(days)]
        return Page(
            f"{self._dataset}: what followed from each day",
            [
                Prose("The first row of the policy that held decided; the newest run of each day."),
                Table(("day", "action", "row", "why", *SIGNALS), rows),
            ],
        )


def _row(day: datetime.date, run: Mapping[str, object]) -> Sequence[Cell]:
    action, said = Action(str(run["action"])), run["findings"]
    assert isinstance(said, dict)
    shown = f"{action.value} (held)" if run["is_held"] else action.value
    return [
        Cell(day.isoformat()),
        Cell(shown, tone=_TONES[action], note=str(run["version"] or "")),
        Cell(str(run["row"])),
        Cell(str(run["why"])),
        *(_finding(*said.get(name, ("unknown", "not measured"))) for name in SIGNALS),
    ]


def _finding(state: str, what: str) -> Cell:
    tones = {"kept": Tone.GOOD, "broken": Tone.BAD}
    return Cell(state, note=what, tone=tones.get(state, Tone.QUIET))

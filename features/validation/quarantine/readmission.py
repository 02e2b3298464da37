"""Days of rows in quarantine re-admitted in order, and what is said of it."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from features.lake.lake import READMITTED
from features.pages import site
from features.pages.content import Block, Bullets, Heading, Page, Table
from features.pipeline.ingestion.ingest import corrections
from features.pipeline.workspace import Workspace
from features.places import Place
from features.validation.quarantine.due_partitions import dag_runs, due_because_of, rebuild_lines
from features.validation.quarantine.readmit import Correction, ReadmittedDay, readmit


@dataclasses.dataclass(frozen=True)
class Readmission:
    """What became of some days' rows in quarantine, and what is due because of it."""

    dataset: str
    days: Sequence[ReadmittedDay]
    due: Mapping[str, Sequence[datetime.date]]
    """Days by table that do not follow from the impressions any more."""
    commands: Sequence[str]
    """What makes them again."""
    runs: Sequence[str]
    """Runs of the daily DAG that do the same."""

    @property
    def stopped_by(self) -> str:
        """Why the last day was stopped by its check; empty: none was."""
        outcome = self.days[-1].outcome if self.days else None
        if not (outcome and outcome.critical):
            return ""
        return (
            f"{self.days[-1].day}: {'; '.join(outcome.critical)}; nothing of this day and of later "
            "ones was published"
        )

    @property
    def summary(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "held": sum(one.held for one in self.days),
            "corrected": sum(one.corrected for one in self.days),
            "admitted": sum(one.published for one in self.days),
            "still_broken": {str(one.day): dict(one.still_broken) for one in self.days},
            "due": {table: [str(day) for day in days] for table, days in self.due.items()},
            "commands": list(self.commands),
            "dag_runs": list(self.runs),
        }

    @property
    def in_words(self) -> str:
        """The same for a terminal."""
        columns = ("day", "held", "corrected", "admitted", "still held by")
        rows = [
            (str(one.day), one.held, one.corrected, one.published, _broken(one.still_broken))
            for one in self.days
        ]
        blocks: list[Block] = [Table(columns, rows)]
        if self.due:
            due = [
                (table, len(days), str(days[0]), str(days[-1])) for table, days in self.due.items()
            ]
            blocks += [Heading("Due because of it"), Table(("table", "days", "from", "to"), due)]
            blocks += [Heading("Commands that make it again, in this order")]
            blocks += [Bullets([one for line in self.commands for one in line.split(" && ")])]
            blocks += [Heading("Or, with Airflow, one run after the other"), Bullets(self.runs)]
        else:
            blocks += [Heading("Nothing is due because of it")]
        return site.text(Page(f"{self.dataset}: re-admitted from quarantine", blocks))


def readmit_days(
    work: Workspace, days: Sequence[datetime.date], correction: Correction, reports: Place
) -> Readmission:
    """Re-admit rows of some days, oldest first, until a check stops a day.

    Raises:
        ConflictError: Another job has replaced a day since this one began.
    """
    done: list[ReadmittedDay] = []
    for day in days:
        done.append(readmit(work, day, correction, reports))
        if done[-1].is_stopped:
            break
    moments = corrections(work, days, READMITTED)
    due = due_because_of(work.lake, work.schema, list(moments))
    if not due:
        return Readmission(work.schema.name, done, {}, [], [])
    moment = max(moments.values())
    commands = rebuild_lines(work.lake, work.schema, due, moment)
    return Readmission(work.schema.name, done, due, commands, dag_runs(work.schema, due, moment))


def _broken(rules: Mapping[str, int]) -> str:
    return ", ".join(f"{rule}: {rows}" for rule, rows in rules.items()) or "none of them"

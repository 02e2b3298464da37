"""Many days of the whole stack in an hour, with faults; against the same days without any.

    python -m infra.drills.life              sixty days and thirty faults, as `make drill-life`
    python -m infra.drills.life --days 10 --faults 8

The stack of `make up` runs generated days, each as soon as the one before is well: the days' clock
is that fast. Faults are drawn by lot from a seed. Each must be named by the alert that its kind
has, is then healed as the alert's runbook says, and in the end nothing may be left of it: every
table and the last model are, to the bit, those of a run without faults. All along the endpoint is
asked, and the lake is read.

Progress goes to stderr; the last line of stdout is one JSON object, and `life.json` and `life.html`
in the drill's folder have it with a line for each fault. Exit code 1: something was not as it must
be.
"""

import concurrent.futures
import dataclasses
import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from tqdm import tqdm

from features.options import from_flags, option, parse
from features.pages import site
from features.places import place
from infra.drills.life import reference as references
from infra.drills.life.faults.catalog import KINDS, planned
from infra.drills.life.faults.fault import Fault, Outcome
from infra.drills.life.page import page_of
from infra.drills.life.runs import Run
from infra.drills.life.watch import Watch
from infra.drills.life.world import DATASET, World
from infra.local.network import JsonObject
from infra.local.processes import end_trees, terminate_as_interrupt
from infra.local.settings import REPOSITORY


@from_flags
class LifeRequest:
    """Days of the whole stack with faults, and the same days without any."""

    days: int = option("that Airflow runs", default=60)
    faults: int = option("that happen, at most one a day", default=30)
    rows: int = option("of the generated log, each day", default=2_500)
    seed: int = option("of the log, and of which fault meets which day", default=0)
    kinds: str = option("of faults, separated by `,`; empty: all that are possible", default="")
    folder: Path = option(
        "for all that it makes; what an earlier drill left there is removed",
        metavar="DIR",
        default=REPOSITORY / "var" / "life",
    )

    def __post_init__(self) -> None:
        """ValueError where no day or no row is asked for, or there is no such kind."""
        for name in ("days", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: {getattr(self, name)}; at least 1")
        known = {kind.name for kind in KINDS}
        if unknown := set(filter(None, self.kinds.split(","))) - known:
            raise ValueError(f"--kinds {sorted(unknown)}: unknown; {sorted(known)}")


@dataclasses.dataclass(frozen=True)
class Happened:
    """A fault, its day and its outcome."""

    day: datetime.date
    fault: Fault
    outcome: Outcome


class Life:
    """One drill."""

    def __init__(self, request: LifeRequest, world: World) -> None:
        """Args: what was asked for, and its world, which does not run yet."""
        self.world = world
        asked = set(filter(None, request.kinds.split(",")))
        kinds = [kind for kind in KINDS if kind.is_possible(world)]
        kinds = [kind for kind in kinds if not asked or kind.name in asked]
        self.impossible = sorted(kind.name for kind in KINDS if not kind.is_possible(world))
        self.plan = planned(world.days, kinds, faults=request.faults, seed=request.seed)
        self.happened: list[Happened] = []
        self.failed_days: list[str] = []
        self.unexpected: list[str] = []

    def run(self) -> JsonObject:
        """The days without faults, then with them; what was found."""
        started = time.monotonic()
        world = self.world
        with world.running():
            reference = references.Reference(world)
            reference.build()
            world.open()
            watch = Watch(place(world.data / "lake" / DATASET), lambda: reference.hashes)
            parts = (world.traffic, world.recorder, watch)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                learning = pool.submit(reference.learn)
                for part in parts:
                    part.start()
                try:
                    self._live()
                finally:
                    for part in parts:
                        part.stop()
                learning.result()
            return self._summary(reference, watch, seconds=time.monotonic() - started)

    def _live(self) -> None:
        """Day after day; the monitors look at one while the next one runs."""
        monitored: Run | None = None
        with tqdm(total=len(self.world.days), unit="day", desc="life") as bar:
            for day in self.world.days:
                fault = self.plan.get(day)
                bar.set_postfix_str(f"{day} {fault.name if fault else ''}")
                self._one_day(day, fault)
                self._end_of(monitored)
                monitored = None if fault and fault.looks_itself else self.world.look_at(day)
                bar.update()
        self._end_of(monitored)

    def _one_day(self, day: datetime.date, fault: Fault | None) -> None:
        world = self.world
        world.serve_day(day)
        if fault is not None:
            try:
                outcome = fault.happen(world, day)
            except (RuntimeError, OSError, LookupError, ValueError, psutil.Error) as error:
                outcome = Outcome(False, f"the drill failed: {error!r}"[:500], is_healed=False)
            self.happened.append(Happened(day, fault, outcome))
            said = "named" if outcome.is_named else "NOT NAMED"
            said += ", healed" if outcome.is_healed else ", NOT HEALED"
            tqdm.write(f"{day} {fault.name}: {said}; {outcome.named_by}", file=sys.stderr)
            run = Run(world.daily, f"day__{day}")
        else:
            world.land(day)
            run = world.runs.start(world.daily, day)
            if world.runs.wait(run) != "success":
                self.failed_days.append(str(day))
                states = {name: one["state"] for name, one in world.runs.tasks(run).items()}
                tqdm.write(f"{day} FAILED without a fault: {states}", file=sys.stderr)
            self.unexpected += [f"{day} {one.name}: {one.error}" for one in world.runs.alerts(run)]
        world.note_candidate(run)

    def _end_of(self, monitored: Run | None) -> None:
        if monitored is None:
            return
        world = self.world
        if world.runs.wait(monitored) != "success":
            self.failed_days.append(monitored.run_id)
        self.unexpected += [
            f"{monitored.run_id} {one.name}: {one.error}" for one in world.runs.alerts(monitored)
        ]

    def _summary(
        self, reference: references.Reference, watch: Watch, *, seconds: float
    ) -> JsonObject:
        world = self.world
        days = [*world.history, *world.days]
        found = references.hashes_of(place(world.data / "lake" / DATASET), days)
        differing = sorted(
            f"{table} {day}"
            for table, day in {*found, *reference.hashes}
            if found.get((table, day)) != reference.hashes.get((table, day))
        )
        mine = references.last_checkpoint(world, place(world.data))
        bits = [references.bits_of(one) for one in (mine, reference.last_checkpoint())]
        bad = {name for name, said in world.decisions.items() if said != "promote"}
        answered_bad = sorted(set(world.traffic.versions) & bad)
        outcomes = [one.outcome for one in self.happened]
        return {
            "days": len(world.days),
            "faults": len(outcomes),
            "named": sum(one.is_named for one in outcomes),
            "healed": sum(one.is_healed for one in outcomes),
            "hashes_equal": not differing and bits[0] == bits[1],
            "requests_lost": len(world.traffic.lost),
            "seconds": round(seconds),
            "partitions": len(found),
            "differing": differing[:20],
            "model_bits_equal": bits[0] == bits[1],
            "requests": world.traffic.sent,
            "requests_asked_again": world.traffic.retried,
            "lost": world.traffic.lost[:5],
            "wrong_answers": world.traffic.wrong[:5],
            "versions_that_answered": len(world.traffic.versions),
            "bad_candidates": len(bad),
            "bad_candidates_that_answered": answered_bad,
            "looks_at_the_lake": watch.looks,
            "wrong_looks": watch.wrong[:10],
            "days_failed_without_a_fault": self.failed_days,
            "alerts_without_a_fault": self.unexpected[:20],
            "faults_impossible_here": self.impossible,
            "list": [
                {
                    "day": str(one.day),
                    "fault": one.fault.name,
                    "words": one.fault.words,
                    "alert": one.fault.alert,
                    **dataclasses.asdict(one.outcome),
                }
                for one in self.happened
            ],
        }


def is_well(summary: JsonObject) -> bool:
    """Whether all was as it must be."""
    wrong = ("requests_lost", "wrong_answers", "bad_candidates_that_answered", "wrong_looks")
    return bool(
        summary["hashes_equal"]
        and summary["named"] == summary["healed"] == summary["faults"]
        and not any(summary[name] for name in (*wrong, "days_failed_without_a_fault"))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; returns the exit code."""
    request = parse(LifeRequest, prog="python -m infra.drills.life", arguments=arguments)
    terminate_as_interrupt()
    folder = request.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        world = World(folder, days=request.days, rows_per_day=request.rows, seed=request.seed)
        summary = Life(request, world).run()
    except KeyboardInterrupt:
        sys.stderr.write("ended before the end\n")
        return 130
    finally:
        end_trees(child.pid for child in psutil.Process().children())
    text = json.dumps(summary)
    (folder / "life.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    site.write(page_of(summary), place(folder), "life.html")
    sys.stdout.write(f"{text}\n")
    return 0 if is_well(summary) else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

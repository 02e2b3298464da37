"""The days of a drill, one after the other, and what was found in the end."""

import dataclasses
import datetime
import http.client
import sys
import time
from collections.abc import Collection

import psutil
from tqdm import tqdm

from features.places import place
from infra.drills.life import reference as references
from infra.drills.life.deployment import DATASET
from infra.drills.life.faults.catalog import KINDS, planned
from infra.drills.life.faults.fault import Fault, Outcome
from infra.drills.life.page import MUST_BE_EMPTY
from infra.drills.life.runs import Run
from infra.drills.life.watch import Watch
from infra.drills.life.world import World
from infra.local.network import JsonObject

_FAILURES = (
    RuntimeError,
    OSError,
    LookupError,
    ValueError,
    http.client.HTTPException,
    psutil.Error,
)
"""Of a drill's own step: the day counts as not healed, and the days go on."""


@dataclasses.dataclass(frozen=True)
class Happened:
    """A fault, its day and its outcome."""

    day: datetime.date
    fault: Fault
    outcome: Outcome


class Life:
    """One drill."""

    def __init__(self, world: World, *, faults: int, seed: int, asked: Collection[str]) -> None:
        """Draw the faults; nothing runs yet.

        Args:
            world: In which the days are lived.
            faults: How many of them have one.
            seed: Of the lot.
            asked: Names of kinds; none: all that are possible.
        """
        self.world = world
        possible = [kind for kind in KINDS if kind.is_possible(world)]
        self.impossible = sorted(kind.name for kind in KINDS if kind not in possible)
        kinds = [kind for kind in possible if kind.name in asked or not asked]
        self.plan = planned(world.days, kinds, faults=faults, seed=seed)
        self.happened: list[Happened] = []
        self.failed_days: list[str] = []
        self.different_days: list[str] = []
        self.alerts_of_plain_days: list[str] = []
        self.alerts_of_monitors: list[str] = []

    def run(self) -> JsonObject:
        """The days without faults, then with them; what was found."""
        started = time.monotonic()
        world = self.world
        with world.running():
            reference = references.Reference(world)
            reference.build()
            reference.learn()
            world.open()
            watch = Watch(place(world.data / "lake" / DATASET), reference.hashes)
            parts = (world.traffic, world.recorder, watch)
            for part in parts:
                part.start()
            try:
                self._live(reference)
            finally:
                for part in parts:
                    part.stop()
            return self._summary(reference, watch, seconds=time.monotonic() - started)

    def _live(self, reference: references.Reference) -> None:
        """Day after day; the monitors look at one while the next one runs, if that has no fault."""
        monitored: Run | None = None
        with tqdm(total=len(self.world.days), unit="day", desc="life") as bar:
            for day in self.world.days:
                fault = self.plan.get(day)
                bar.set_postfix_str(f"{day} {fault.name if fault else ''}")
                if fault is not None:  # which would meet them too
                    self._end_of(monitored)
                    monitored = None
                self._one_day(day, fault, reference)
                self._end_of(monitored)
                monitored = None if fault and fault.looks_itself else self.world.look_at(day)
                bar.update()
        self._end_of(monitored)

    def _one_day(
        self, day: datetime.date, fault: Fault | None, reference: references.Reference
    ) -> None:
        world = self.world
        try:
            if fault is not None:
                fault.begin(world)
            world.serve_day(day)
            outcome = fault.happen(world, day) if fault else self._plain_day(day)
        except _FAILURES as error:
            outcome = Outcome(False, f"the drill failed: {error!r}"[:500], is_healed=False)
            self._after_failure(day, fault)
        is_whole = self._is_whole(day, reference)
        if not is_whole:
            self.different_days.append(str(day))
        if fault is None:
            if not outcome.is_healed:
                self.failed_days.append(f"{day} {outcome.named_by}")
            return
        outcome = dataclasses.replace(outcome, is_healed=outcome.is_healed and is_whole)
        self.happened.append(Happened(day, fault, outcome))
        said = "named" if outcome.is_named else "NOT NAMED"
        said += ", healed" if outcome.is_healed else ", NOT HEALED"
        tqdm.write(f"{day} {fault.name}: {said}; {outcome.named_by}", file=sys.stderr)

    def _plain_day(self, day: datetime.date) -> Outcome:
        """A day without a fault."""
        world = self.world
        world.land(day)
        run = world.runs.start(world.daily, day)
        state = world.runs.wait(run)
        world.note_candidate(run)
        found = [f"{day} {one.name}: {one.error}" for one in world.runs.alerts(run)]
        self.alerts_of_plain_days += found
        states = {name: one["state"] for name, one in world.runs.tasks(run).items()}
        return Outcome(False, f"{states}", is_healed=state == "success")

    def _is_whole(self, day: datetime.date, reference: references.Reference) -> bool:
        """Whether a day's tables and its checkpoint are those of the run without faults."""
        data = place(self.world.data)
        found = references.hashes_of(data / "lake" / DATASET, [day])
        expected = {key: value for key, value in reference.hashes.items() if key[1] == day}
        bits = references.bits_of_day(self.world, data, day)
        return found == expected and bits == reference.bits[day]

    def _after_failure(self, day: datetime.date, fault: Fault | None) -> None:
        """Take away what may be left of a fault, and have the day all the same."""
        world = self.world
        try:
            if fault is not None:
                fault.undo(world, day)
            world.land(day)
            world.runs.fail(Run(world.daily, f"day__{day}"))
            again = world.runs.start_by_hand(world.daily, day, name="after-failure")
            world.runs.wait(again)
        except _FAILURES as error:
            self.failed_days.append(f"{day} after a failure: {error!r}"[:300])

    def _end_of(self, monitored: Run | None) -> None:
        if monitored is None:
            return
        world = self.world
        try:
            if world.runs.wait(monitored) != "success":
                self.failed_days.append(monitored.run_id)
            found = world.runs.alerts(monitored)
        except _FAILURES as error:
            self.failed_days.append(f"{monitored.run_id}: {error!r}"[:300])
        else:
            self.alerts_of_monitors += [
                f"{monitored.run_id} {one.name}: {one.error}" for one in found
            ]

    def _summary(
        self, reference: references.Reference, watch: Watch, *, seconds: float
    ) -> JsonObject:
        world = self.world
        found = references.hashes_of(place(world.data / "lake" / DATASET))
        differing = sorted(
            f"{table} {day}"
            for table, day in {*found, *reference.hashes}
            if found.get((table, day)) != reference.hashes.get((table, day))
        )
        last = world.days[-1]
        bits = references.bits_of_day(world, place(world.data), last)
        is_equal = bits == reference.bits[last]
        bad = {name for name, said in world.decisions.items() if said != "promote"}
        answered_bad = sorted(set(world.traffic.versions) & bad)
        outcomes = [one.outcome for one in self.happened]
        return {
            "days": len(world.days),
            "faults": len(outcomes),
            "named": sum(one.is_named for one in outcomes),
            "healed": sum(one.is_healed for one in outcomes),
            "hashes_equal": not differing and is_equal,
            "requests_lost": len(world.traffic.lost),
            "seconds": round(seconds),
            "partitions": len(found),
            "differing": differing[:20],
            "model_bits_equal": is_equal,
            "days_that_differed_when_they_were_done": self.different_days,
            "requests": world.traffic.sent,
            "requests_answered": world.traffic.answered,
            "requests_asked_again": world.traffic.retried,
            "lost": world.traffic.lost[:5],
            "wrong_answers": world.traffic.wrong[:5],
            "versions_that_answered": len(world.traffic.versions),
            "bad_candidates": len(bad),
            "bad_candidates_that_answered": answered_bad,
            "looks_at_the_lake": watch.looks,
            "wrong_looks": watch.wrong[:10],
            "days_failed_without_a_fault": self.failed_days,
            "alerts_of_days_without_a_fault": self.alerts_of_plain_days[:20],
            "alerts_of_monitors": self.alerts_of_monitors[:20],
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
    answered = summary["requests_answered"] + summary["requests_lost"]
    return bool(
        summary["hashes_equal"]
        and summary["named"] == summary["healed"] == summary["faults"]
        and summary["requests"] == answered > 0
        and summary["looks_at_the_lake"]
        and not any(summary[name] for name in MUST_BE_EMPTY)
    )

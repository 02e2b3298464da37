"""Bad candidates: the gate, and not the users, must meet them."""

import datetime

from infra.drills.life.deployment import RECIPE
from infra.drills.life.faults.fault import Fault, Outcome, named
from infra.drills.life.runs import Run
from infra.drills.life.world import World


class _BadCandidate(Fault):
    """A run whose recipe makes a bad candidate; another run for the day with the right recipe."""

    recipe: str

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """The candidate is named, and the day has a good one in the end."""
        world.land(day)
        run = world.runs.start(world.daily, day, recipe=self.recipe)
        world.runs.wait(run)
        is_named, by = self.seen(world, run)
        world.note_candidate(run)
        again = world.runs.start_by_hand(world.daily, day, name="right-recipe", recipe=RECIPE)
        state = world.runs.wait(again)
        world.note_candidate(again)
        return Outcome(is_named, by, is_healed=state == "success")

    def seen(self, world: World, run: Run) -> tuple[bool, str]:
        """Whether the gate refused the candidate, and said why; to hold would be no judgement."""
        decision = world.runs.result(run, "evaluate")
        said = f"gate: {decision.get('decision')}: {decision.get('reasons')}"[:240]
        is_refused = decision.get("decision") == "refuse"
        return is_refused and world.has_runbook(f"infra/runbooks/{self.alert}.md"), said


class Diverging(_BadCandidate):
    """A training whose numbers leave float32."""

    name, alert = "diverging", "training-diverged"
    words = "The candidate's weights become NaN."
    recipe = "life-diverging"

    def seen(self, world: World, run: Run) -> tuple[bool, str]:
        """The training itself says so."""
        return named(world, run, self.alert)


class Overfitted(_BadCandidate):
    """A candidate that knows one day by heart."""

    name, alert = "overfitted", "gate-refused-or-hold"
    words = "The candidate has learnt the newest day by heart."
    recipe = "life-overfitted"


class Uncalibrated(_BadCandidate):
    """A candidate whose scores are not probabilities of clicks."""

    name, alert = "uncalibrated", "gate-refused-or-hold"
    words = "The candidate was trained in steps so long that its scores are anywhere."
    recipe = "life-uncalibrated"

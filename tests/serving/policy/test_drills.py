"""Each row of infra/policy.yaml: what is found leads to what is done, and to nothing else.

Registry as files, no server: the aliases move and the next start follows. That a running endpoint
follows is in tests/serving/release.
"""

import datetime
from pathlib import Path

import pytest
from support.serving.stand_ins import FileRegistry

from serving.policy.act import act, versions_of
from serving.policy.decision import Decision, Finding, State, Window, decide
from serving.policy.journal import Journal
from serving.policy.table import Action, read_policy
from serving.release.endpoint_client import NOWHERE, Endpoint
from serving.release.promotion import SkippedError, candidate_of

POLICY = read_policy(Path(__file__).parents[3] / "infra" / "policy.yaml")
DAY = datetime.date(2025, 6, 20)
FIRST, SECOND, THIRD = "2025-06-01-a", "2025-06-10-b", "2025-06-18-c"
KEPT = {name: Finding(State.KEPT, "as promised") for name in ("parity", "freshness", "drift")}
BROKEN = Finding(State.BROKEN, "0.4 % against 0.1 %")


def ago(days):
    return DAY - datetime.timedelta(days=days)


def windows(version, *, broken=2, requests=5_000, last=0):
    """The newest days of a version, so many of them broken, as quality says it."""
    return [
        Window(ago(last + n), version, n < broken, requests, f"calibration {1.4 + n}")
        for n in range(5)
    ]


class Drill:
    """Three champions, one after the other, and a policy that is asked day after day."""

    def __init__(self, folder):
        self.folder = folder
        self.registry = FileRegistry(folder / "registry")
        (folder / "registry").mkdir()
        for version, previous in ((FIRST, None), (SECOND, FIRST), (THIRD, SECOND)):
            (folder / "artifacts" / version).mkdir(parents=True)
            self.registry.set_tag(version, "previous_champion", previous)
        self.registry.set_alias("champion", THIRD)
        self.journal = Journal(folder / "reports", "shop")

    def day(self, findings=(), of_versions=(), day=DAY):
        serving = versions_of(self.registry)
        decision = decide(
            POLICY,
            day=day,
            findings={**KEPT, **dict(findings)},
            windows=of_versions,
            serving=serving,
            before=self.journal.before(day),
        )
        done = act(
            decision,
            serving,
            registry=self.registry,
            endpoint=Endpoint.from_environment(NOWHERE, model="shop"),
            artifacts=self.folder / "artifacts",
        )
        self.journal.note(day, decision, {**KEPT, **dict(findings)}, done)
        return decision

    @property
    def champion(self):
        return self.registry.alias("champion")


@pytest.fixture
def drill(tmp_path):
    return Drill(tmp_path)


def test_nothing_found_nothing_done(drill):
    found = drill.day(of_versions=windows(THIRD, broken=0))
    assert (found.row, found.action, drill.champion) == ("nothing", Action.NOTHING, THIRD)


@pytest.mark.parametrize("signal", ["parity", "freshness"])
def test_data_at_fault_is_an_alert_and_no_model_is_changed(drill, signal):
    """Even though the version looks broken and the log has drifted: both may come of the data."""
    broken = {signal: BROKEN, "drift": Finding(State.BROKEN, "price moved")}
    found = drill.day(broken, windows(THIRD))
    assert (found.row, found.action, found.is_held) == ("data-at-fault", Action.ALERT, False)
    assert "0.4 % against 0.1 %" in found.why
    assert drill.champion == THIRD


def test_a_version_that_is_broken_on_two_days_gives_way_and_says_why(drill):
    found = drill.day(of_versions=windows(THIRD))
    assert (found.row, found.action, found.version) == ("version-broken", Action.ROLL_BACK, THIRD)
    assert drill.champion == SECOND
    marked = drill.registry.tag(THIRD, "rolled_back")
    assert marked.startswith("by the policy: quality: version 2025-06-18-c is broken")
    assert "calibration 1.4 (5,000 requests)" in marked
    # A re-run of its day does not bring it back.
    (drill.folder / "registry" / "newest").write_text(THIRD)
    with pytest.raises(SkippedError, match="was rolled back by the policy"):
        candidate_of(drill.registry, decision={}, day=datetime.date(2025, 6, 18))


def test_one_broken_day_or_too_few_requests_are_not_enough(drill):
    assert drill.day(of_versions=windows(THIRD, broken=1)).action is Action.NOTHING
    assert drill.day(of_versions=windows(THIRD, requests=999)).action is Action.NOTHING
    # Days with too few requests are passed over: the days before them decide.
    few = [Window(ago(0), THIRD, False, 999, "fine")]
    assert drill.day(of_versions=few + windows(THIRD, last=1)).action is Action.ROLL_BACK


def test_two_broken_days_with_weeks_between_are_two_stories(drill):
    apart = [Window(ago(n), THIRD, True, 5_000, "calibration 1.4") for n in (0, 4)]
    assert drill.day(of_versions=apart).action is Action.NOTHING


def test_there_is_one_roll_back_a_day_at_most(drill):
    both = windows(THIRD) + windows(SECOND, broken=0)
    assert drill.day(of_versions=both).action is Action.ROLL_BACK
    now_second = windows(SECOND)
    held = drill.day(of_versions=now_second)
    assert (held.action, held.is_held, drill.champion) == (Action.ALERT, True, SECOND)
    assert f"there was one on {DAY}, and at most one in 1 d" in held.why
    assert drill.day(of_versions=now_second, day=ago(-1)).action is Action.ROLL_BACK
    assert drill.champion == FIRST


def test_a_version_that_was_promoted_again_is_not_taken_back_for_what_was_known(drill):
    assert drill.day(of_versions=windows(THIRD)).action is Action.ROLL_BACK
    drill.registry.set_alias("champion", THIRD)  # promote --again
    assert drill.day(of_versions=windows(THIRD), day=ago(-1)).action is Action.NOTHING
    later = [*windows(THIRD), *(Window(ago(-n), THIRD, True, 5_000, "worse") for n in (1, 2))]
    assert drill.day(of_versions=later, day=ago(-2)).action is Action.ROLL_BACK


def test_another_version_that_answers_by_now_is_not_taken_back(drill):
    serving = versions_of(drill.registry)
    decision = Decision("version-broken", Action.ROLL_BACK, "worse", THIRD)
    drill.registry.set_alias("champion", SECOND)
    with pytest.raises(SkippedError, match="answers no more"):
        act(
            decision,
            serving,
            registry=drill.registry,
            endpoint=Endpoint.from_environment(NOWHERE, model="shop"),
            artifacts=drill.folder / "artifacts",
        )


def test_a_version_is_not_taken_back_to_one_that_is_broken_too_or_to_none(drill):
    held = drill.day(of_versions=windows(THIRD) + windows(SECOND))
    assert (held.action, held.is_held, drill.champion) == (Action.ALERT, True, THIRD)
    assert f"so is the one before it: quality: version {SECOND}" in held.why
    drill.registry.set_alias("champion", FIRST)
    held = drill.day(of_versions=windows(FIRST))
    assert (held.action, "no champion came before it" in held.why) == (Action.ALERT, True)


def test_as_long_as_nobody_knows_whether_the_data_are_right_no_model_is_taken_back(drill):
    unknown = {"parity": Finding(State.UNKNOWN, "no result of this day")}
    held = drill.day(unknown, windows(THIRD))
    assert (held.action, held.is_held, drill.champion) == (Action.ALERT, True, THIRD)
    assert "it is not known whether this is kept: parity (no result of this day)" in held.why


def test_a_broken_canary_ends_and_the_champion_stays(drill):
    drill.registry.set_alias("champion", SECOND)
    drill.registry.set_alias("canary", THIRD)
    drill.registry.set_tag(THIRD, "share", '{"percent": 5}')
    found = drill.day(of_versions=windows(THIRD) + windows(SECOND, broken=0))
    assert (found.action, found.version, drill.champion) == (Action.ROLL_BACK, THIRD, SECOND)
    assert drill.registry.alias("canary") is None


def test_a_broken_champion_gives_way_although_a_canary_is_under_way(drill):
    drill.registry.set_alias("champion", SECOND)
    drill.registry.set_alias("canary", THIRD)
    drill.day(of_versions=windows(SECOND) + windows(THIRD, broken=0))
    assert drill.champion == FIRST
    assert drill.registry.tag(THIRD, "rolled_back") is None


def test_drift_alone_asks_for_a_training_once_a_week(drill):
    drifted = {"drift": Finding(State.BROKEN, "price: PSI 0.31, 0.08 is usual")}
    fine = windows(THIRD, broken=0)
    found = drill.day(drifted, fine)
    assert (found.row, found.action, drill.champion) == ("drift-alone", Action.RETRAIN, THIRD)
    for days in range(1, 7):
        held = drill.day(drifted, fine, day=ago(-days))
        assert (held.is_held, held.action) == (True, Action.NOTHING)
    assert drill.day(drifted, fine, day=ago(-7)).action is Action.RETRAIN


def test_every_day_is_in_the_journal_and_on_its_page(drill):
    drill.day(of_versions=windows(THIRD))
    drill.day(day=ago(-1))
    again = drill.day()
    assert again.action is Action.NOTHING  # of the first day, whose roll-back is not forgotten
    assert [one.action for one in drill.journal.before(DAY)] == [Action.ROLL_BACK]
    assert drill.journal.before(ago(1)) == []
    page = (drill.folder / "reports" / "shop" / "policy" / "index.html").read_text()
    assert page.index("2025-06-21") < page.index("2025-06-20")

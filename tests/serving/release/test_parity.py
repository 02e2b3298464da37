"""While parity is broken no candidate is promoted, and what is not known is said."""

import datetime
import json

import pytest

from features.cli import SkippedError
from features.places import place
from serving.cli.decision import decision_of
from serving.cli.requests import PromoteRequest
from serving.release.parity import require_parity

NOW = datetime.datetime(2025, 6, 16, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def result(tmp_path):
    """Puts a result among the reports."""

    def put(window="2025-06-15", *, share, made_at=NOW - HOUR):
        path = tmp_path / "synthetic" / "parity" / f"{window}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"ends_at": NOW.isoformat(), "made_at": made_at.isoformat(), "compared": 9.0}
        path.write_text(json.dumps({**content, "unexplained_share": share}))

    return put


@pytest.fixture
def said(tmp_path):
    """What the gate says of the results."""

    def ask(*, is_required=False, max_unexplained=0.001):
        return require_parity(
            place(tmp_path),
            dataset="synthetic",
            max_unexplained=max_unexplained,
            max_age=48 * HOUR,
            is_required=is_required,
            now=NOW,
        )

    return ask


def test_the_candidate_is_held_above_the_limit_and_not_below(result, said):
    result(share=0.0011)
    with pytest.raises(SkippedError, match=r"2025-06-15 0\.1100% .* most 0\.1000%; .*held"):
        said()
    assert said(max_unexplained=0.002) == "2025-06-15: 0.1100% unexplained"
    result(share=0.0009)
    assert said() == "2025-06-15: 0.0900% unexplained"


def test_an_hour_after_the_day_holds_too_and_does_not_hide_the_day(result, said):
    result(share=0.0)
    result("2025-06-16T10", share=0.5)
    with pytest.raises(SkippedError, match="2025-06-16T10"):
        said()
    result("2025-06-16T10", share=0.0)
    result(share=0.5)
    with pytest.raises(SkippedError, match="2025-06-15 50"):
        said()


def test_without_a_result_the_gate_says_so_and_holds_where_it_is_asked_to(said):
    assert said() == "no result; `python -m features parity` makes one"
    with pytest.raises(SkippedError, match=r"no result; .* a result is required; the"):
        said(is_required=True)


def test_an_old_result_says_nothing_and_holds_where_one_is_required(result, said):
    result(share=0.5, made_at=NOW - 50 * HOUR)
    old = "the newest result, of 2025-06-15, is 50 hours old, over 48"
    assert said() == old
    with pytest.raises(SkippedError, match=old):
        said(is_required=True)


def test_the_commands_read_the_gates_decision_and_parity(tmp_path, result):
    day = datetime.date(2025, 6, 9)
    folder = tmp_path / "synthetic" / "gate" / str(day)
    folder.mkdir(parents=True)
    (folder / "decision.json").write_text(json.dumps({"decision": "promote", "candidate": "c"}))
    asked = PromoteRequest(dataset="synthetic", date=day, reports=place(tmp_path))
    found = decision_of(asked)
    assert (found["candidate"], found["parity"][:9]) == ("c", "no result")
    result(share=0.0011, made_at=datetime.datetime.now(datetime.UTC))
    with pytest.raises(SkippedError, match="parity is broken"):
        decision_of(asked)

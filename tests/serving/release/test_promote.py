"""Promotion: when the alias moves, when it goes back, and when nothing is done."""

import datetime
import http.server
import json
import threading

import pytest
from support.serving import stand_ins

from features.lineage.observed import observing
from features.places import put_whole
from serving.release.endpoint_client import Endpoint
from serving.release.promotion import (
    PromotionError,
    SkippedError,
    promote,
    read_decision,
)

DAY = datetime.date(2025, 6, 9)
YES = {"decision": "promote", "reasons": []}


def promoted(server_or_registry, version, *, url, decision=YES, day=DAY):
    registry = getattr(server_or_registry, "registry", server_or_registry)
    registry.set_alias("newest", version)
    return promote(registry, decision=decision, day=day, endpoint=Endpoint(url, "stand-in"))


@pytest.fixture
def registry(tmp_path):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", "2025-06-01-first")
    return registry


@pytest.fixture
def nowhere(free_ports):
    return f"http://127.0.0.1:{free_ports[0]}"


def test_it_is_done_when_the_endpoint_answers_with_the_new_version(server, body):
    with observing() as seen:
        done = promoted(server, "2025-06-09-second", url=server.url)
    (model,) = seen.outputs
    assert (model.where, model.version) == (
        f"{server.url}/v2/models/stand-in",
        "2025-06-09-second",
    )
    assert done == {
        "version": "2025-06-09-second",
        "previous": "2025-06-01-first",
        "endpoint": server.url,
        "served": True,
        "canary": "not tried",
    }
    assert server.infer(body()).json()["model_version"] == "2025-06-09-second"
    assert server.registry.alias("champion") == "2025-06-09-second"


def test_a_candidate_that_does_not_load_is_rolled_back(server, body):
    with pytest.raises(PromotionError, match=r"golden response.*back at 2025-06-01-first"):
        promoted(server, "2025-06-09-broken", url=server.url)
    assert server.registry.alias("champion") == "2025-06-01-first"
    assert server.infer(body()).json()["model_version"] == "2025-06-01-first"


def test_an_endpoint_that_stays_on_another_version_is_a_failure(registry, monkeypatch):
    """It loads from a registry of its own, for example, and says that all went well."""
    monkeypatch.setattr("serving.release.endpoint_client.ANSWER_TIMEOUT_SECONDS", 0.3)
    answers = _fake_endpoint({"versions": ["2020-01-01-other"]})
    with answers as url, pytest.raises(PromotionError, match="answers with 2020-01-01-other"):
        promoted(registry, "2025-06-09-second", url=url)
    assert registry.alias("champion") == "2025-06-01-first"


def test_without_an_endpoint_the_alias_moves_and_the_summary_says_so(registry, nowhere):
    done = promoted(registry, "2025-06-09-second", url=nowhere)
    assert (done["served"], done["note"]) == (
        False,
        "no endpoint answers; the next start loads the champion",
    )
    assert registry.alias("champion") == "2025-06-09-second"


def test_an_endpoint_that_must_answer_and_does_not_is_a_failure(registry, nowhere, monkeypatch):
    """A named address must have a server; without one the alias would name what does not serve."""
    named = Endpoint.from_environment(nowhere, model="stand-in")
    registry.set_alias("newest", "2025-06-09-second")
    with pytest.raises(PromotionError, match="a server that answers there; alias champion is back"):
        promote(registry, decision=YES, day=DAY, endpoint=named)
    assert registry.alias("champion") == "2025-06-01-first"


def test_none_is_no_server_and_nobody_is_asked(registry):
    endpoint = Endpoint.from_environment("none", model="stand-in")
    registry.set_alias("newest", "2025-06-09-second")
    done = promote(registry, decision=YES, day=DAY, endpoint=endpoint)
    assert (done["served"], done["endpoint"]) == (False, "none")
    assert not Endpoint.from_environment(None, model="stand-in").is_required


def test_what_its_canary_sent_back_is_not_promoted_by_a_re_run(registry, nowhere):
    registry.set_tag("2025-06-09-second", "rolled_back", "by its canary: error rate: 0.5")
    with pytest.raises(SkippedError, match=r"rolled back by its canary: error rate: 0\.5; --again"):
        promoted(registry, "2025-06-09-second", url=nowhere)
    assert registry.alias("champion") == "2025-06-01-first"


def test_the_first_champion_has_no_predecessor(tmp_path, nowhere):
    registry = stand_ins.FileRegistry(tmp_path)
    assert promoted(registry, "2025-06-09-second", url=nowhere)["previous"] is None


def test_a_first_champion_that_does_not_load_leaves_no_alias(tmp_path):
    registry = stand_ins.FileRegistry(tmp_path)
    with _fake_endpoint({"error": "no"}, status=409) as url, pytest.raises(PromotionError):
        promoted(registry, "2025-06-09-second", url=url)
    assert registry.alias("champion") is None


@pytest.mark.parametrize("day", ["2025-06-01", "2025-05-31"])
def test_a_day_that_is_not_newer_never_moves_the_alias(registry, nowhere, day):
    with pytest.raises(SkippedError, match="champion 2025-06-01-first is of 2025-06-01"):
        promoted(registry, f"{day}-again", url=nowhere, day=datetime.date.fromisoformat(day))
    assert registry.alias("champion") == "2025-06-01-first"


def test_a_promotion_that_died_before_its_load_is_finished_by_its_retry(server, body):
    server.registry.set_alias("champion", "2025-06-09-second")
    done = promoted(server, "2025-06-09-second", url=server.url)
    assert (done["version"], done["served"]) == ("2025-06-09-second", True)
    assert server.infer(body()).json()["model_version"] == "2025-06-09-second"
    with pytest.raises(SkippedError, match="only a day after it"):
        promoted(server, "2025-06-09-second", url=server.url)


@pytest.mark.parametrize("decision", ["hold", "refuse"])
def test_any_other_decision_moves_nothing(tmp_path, decision):
    folder = tmp_path / "synthetic" / "gate" / "2025-06-09"
    folder.mkdir(parents=True)
    rejected = {"decision": decision, "reasons": ["too few samples"]}
    (folder / "decision.json").write_text(json.dumps(rejected))
    with pytest.raises(SkippedError, match=f"the gate decided {decision}: too few samples"):
        read_decision(tmp_path, dataset="synthetic", day=DAY)


def test_a_candidate_of_another_day_is_refused(registry, nowhere):
    with pytest.raises(ValueError, match=r"candidate 2025-06-08-x: of 2025-06-08; the day is"):
        promoted(registry, "2025-06-08-x", url=nowhere)
    assert registry.alias("champion") == "2025-06-01-first"


def test_the_decision_may_name_the_candidate(registry, nowhere):
    named = {**YES, "candidate": "2025-06-09-named"}
    done = promoted(registry, "2025-06-30-later", url=nowhere, decision=named)
    assert done["version"] == "2025-06-09-named"


BEATEN = {**YES, "champion": "2025-06-01-first", "control": {"version": "2025-06-01-control"}}


def test_a_ranker_that_beat_the_champion_of_its_own_day_replaces_it(registry, nowhere):
    day = datetime.date(2025, 6, 1)
    done = promoted(registry, "2025-06-01-grown", url=nowhere, decision=BEATEN, day=day)
    assert (done["version"], done["previous"]) == ("2025-06-01-grown", "2025-06-01-first")
    assert registry.alias("champion") == "2025-06-01-grown"


@pytest.mark.parametrize(
    ("decision", "day"),
    [
        ({**BEATEN, "champion": "2025-05-30-other"}, "2025-06-01"),
        ({**BEATEN, "control": None}, "2025-06-01"),
        (BEATEN, "2025-05-31"),
    ],
)
def test_only_who_beat_this_champion_with_a_control_may_do_so(registry, nowhere, decision, day):
    asked = {"decision": decision, "day": datetime.date.fromisoformat(day)}
    with pytest.raises(SkippedError, match="only a day after it may replace it"):
        promoted(registry, f"{day}-grown", url=nowhere, **asked)
    assert registry.alias("champion") == "2025-06-01-first"


def test_a_trials_decision_is_not_the_days(tmp_path):
    folder = tmp_path / "synthetic" / "gate-upscale" / "2025-06-09"
    folder.mkdir(parents=True)
    (folder / "decision.json").write_text(json.dumps(BEATEN))
    asked = {"dataset": "synthetic", "day": DAY}
    assert read_decision(tmp_path, **asked, is_upscaled=True) == BEATEN
    with pytest.raises(ValueError, match="does not exist"):
        read_decision(tmp_path, **asked)


def test_the_decision_is_read_from_the_reports_wherever_they_lie(anywhere):
    file = anywhere / "synthetic" / "gate" / "2025-06-09" / "decision.json"
    with pytest.raises(ValueError, match="does not exist; run `python -m training evaluate`"):
        read_decision(anywhere, dataset="synthetic", day=DAY)
    put_whole(file, json.dumps(YES).encode())
    assert read_decision(anywhere, dataset="synthetic", day=DAY) == YES


class _fake_endpoint:  # noqa: N801 - used like a function
    """Answers everything with one JSON body."""

    def __init__(self, content, *, status=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            do_POST = do_GET  # noqa: N815 - the base class's name

            def log_message(self, *args):
                """Say nothing."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

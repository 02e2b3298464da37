"""The commands on a live endpoint with real rankers: promote, canary, rollback, shadow."""

import shutil
import time

import pytest
from support.serving.release.live_versions import check, load_of
from support.serving.release.spoilt_artifacts import wrong_fingerprint

from infra.drills import fixtures
from serving.processes.options import Options
from serving.processes.single import open_server
from serving.release import canary
from serving.routing.traffic_split import Share, read_share, write_share
from training.registry.aliases import CANARY, CHAMPION
from training.registry.champions import prune

pytestmark = pytest.mark.usefixtures("first_version")


def test_rollback_is_one_command_goes_further_back_and_is_not_undone_by_a_re_run(
    live, command_line
):
    first, second, third, _ = live.world.versions
    for date, version in (("2025-06-02", second), ("2025-06-03", third)):
        code, summary = command_line("promote", f"--date={date}")
        assert (code, summary["version"], summary["served"]) == (0, version, True)

    with load_of(live) as seen:
        code, summary = command_line("rollback")
        assert (code, summary["from"], summary["to"], summary["served"]) == (0, third, second, True)
        assert summary["seconds"] < 60
        assert live.endpoint.version() == second

        code, summary = command_line("promote", "--date=2025-06-03")
        assert (code, "was rolled back; --again" in summary["skipped"]) == (99, True)
        assert command_line("canary", "--date=2025-06-03")[0] == 99
        assert live.endpoint.version() == second

        code, summary = command_line("rollback")
        assert (code, summary["from"], summary["to"]) == (0, second, first)
        code, summary = command_line("rollback")
        assert (code, summary["error"]) == (
            1,
            f"champion {first}: none came before it; --to names another version",
        )
        assert live.endpoint.version() == first

        code, summary = command_line("promote", "--date=2025-06-03", "--again")
        assert (code, summary["version"], summary["previous"]) == (0, third, first)
        code, summary = command_line("rollback", f"--to={second}")
        assert (code, summary["to"], live.endpoint.version()) == (0, second, second)
        assert command_line("rollback", f"--to={second}")[0] == 99
    check(live, seen)


def test_a_rollback_to_what_does_not_load_or_is_gone_changes_nothing(live, command_line, tmp_path):
    first, second, *_ = live.world.versions
    command_line("promote", "--date=2025-06-02")
    folder = live.world.artifacts / first
    shutil.copytree(folder, tmp_path / "good")
    wrong_fingerprint(folder)
    code, summary = command_line("rollback")
    assert (code, f"alias champion is back at {second}" in summary["error"]) == (1, True)
    shutil.rmtree(folder)
    code, summary = command_line("rollback")
    assert (code, summary["error"].endswith("is gone; --to names another version")) == (1, True)
    shutil.copytree(tmp_path / "good", folder)
    assert live.world.registry.alias(CHAMPION) == live.endpoint.version() == second
    assert live.world.registry.tag(second, "rolled_back") is None
    assert command_line("rollback")[1]["to"] == first


def test_a_days_canary_is_kept_over_a_restart_promoted_and_rolled_back(
    live, command_line, monkeypatch
):
    first, _, _, newest = live.world.versions
    registry = live.world.registry
    # Six users are no traffic to judge by; the steps have tests of their own.
    monkeypatch.setattr(canary, "STEPS", ())
    with load_of(live) as seen:
        code, summary = command_line("canary", "--date=2025-06-04")
        assert (code, summary.get("error"), summary["verdict"]) == (0, None, "passed")
        before = len(seen)
        while len(seen) < before + 20:
            time.sleep(0.01)
    check(live, seen)
    assert {version for _, version, _ in seen[-4:]} == {newest}

    restarted = open_server(
        Options(
            schemas=(fixtures.SCHEMA,),
            **{name: live.world.root / name for name in ("store", "artifacts", "tracking")},
            host="127.0.0.1",
            http_port=0,
            grpc_port=0,
        )
    )
    assert restarted.models.ranker(fixtures.SCHEMA.name).versions.to_dict() == {
        "champion": first,
        "canary": {"version": newest, "percent": 100},
        "shadow": None,
    }
    code, summary = command_line("promote", "--date=2025-06-04")
    assert (code, summary["version"], summary["previous"]) == (0, newest, first)
    assert summary["canary"] == "passed"
    versions = live.endpoint.serving_versions()
    assert (versions["champion"], versions["canary"]) == (newest, None)
    assert registry.alias(CANARY) is None

    registry.set_alias(CHAMPION, first)
    live.endpoint.load()
    assert command_line("canary", "--date=2025-06-04")[0] == 0
    code, summary = command_line("rollback")
    assert (code, summary["from"], summary["to"]) == (0, newest, first)
    assert (live.endpoint.serving_versions()["canary"], read_share(registry, CANARY)) == (
        None,
        None,
    )
    assert command_line("promote", "--date=2025-06-04")[0] == 99


def test_a_server_that_was_named_and_does_not_answer_is_a_failure_and_changes_nothing(
    live, command_line
):
    first = live.world.versions[0]
    nowhere = "--endpoint=http://127.0.0.1:9"
    for command in ("canary", "promote"):
        code, summary = command_line(command, "--date=2025-06-04", nowhere)
        assert (code, "127.0.0.1:9: " in summary["error"]) == (1, True)
    command_line("promote", "--date=2025-06-02")
    code, summary = command_line("rollback", nowhere)
    assert (code, "a server that answers there" in summary["error"]) == (1, True)
    assert live.world.registry.alias(CHAMPION) == live.world.versions[1]
    assert command_line("rollback")[1]["to"] == first


def test_a_rollback_to_what_nobody_registered_leaves_the_canary_where_it_is(live, command_line):
    share = Share(version=live.world.versions[1], percent=5)
    write_share(live.world.registry, CANARY, share)
    (live.world.artifacts / "unregistered").mkdir()
    code, summary = command_line("rollback", "--to=unregistered")
    assert (code, "version unregistered: not registered" in summary["error"]) == (1, True)
    assert read_share(live.world.registry, CANARY) == share
    (live.world.artifacts / "unregistered").rmdir()


def test_a_canary_without_traffic_ends_and_the_promotion_says_that_the_gate_decided(
    live, command_line
):
    newest = live.world.versions[3]
    code, summary = command_line("canary", "--date=2025-06-04")
    assert (code, summary["verdict"], live.endpoint.serving_versions()["canary"]) == (
        0,
        "no traffic",
        None,
    )
    code, summary = command_line("promote", "--date=2025-06-04")
    assert (code, summary["version"], summary["canary"]) == (0, newest, "no traffic")


def test_a_canary_without_a_server_or_for_the_champion_leaves_the_decision_to_promote(
    live, command_line
):
    code, summary = command_line("canary", "--date=2025-06-04", "--endpoint=none")
    assert (code, summary["canary"]) == (0, None)
    code, summary = command_line("canary", "--date=2025-06-01")
    assert (code, "only a day after it" in summary["skipped"]) == (99, True)


def test_the_command_shadow_begins_and_ends(live, command_line):
    second = live.world.versions[1]
    code, summary = command_line("shadow", f"--version={second}", "--percent=50")
    assert (code, summary["shadow"]) == (0, {"version": second, "percent": 50})
    code, summary = command_line("shadow")
    newest = live.world.registry.alias("challenger")
    assert (code, summary["shadow"]) == (0, {"version": newest, "percent": 10})
    code, summary = command_line("shadow", "--percent=0")
    assert (code, summary["shadow"]) == (0, None)


def test_retention_keeps_the_way_back_and_what_serves_with_the_champion(
    live, command_line, tmp_path
):
    first, second, third, _ = live.world.versions
    command_line("promote", "--date=2025-06-02")
    command_line("shadow", f"--version={third}")
    shutil.copytree(live.world.artifacts, tmp_path / "artifacts" / fixtures.SCHEMA.name)
    folders = (tmp_path / "checkpoints", tmp_path / "artifacts", live.world.root / "tracking")

    def removed():
        return prune(fixtures.SCHEMA, *folders, keep=1)["removed"]["artifacts"]

    assert removed() == []
    command_line("shadow", "--percent=0")
    assert removed() == [third]
    live.world.registry.set_tag(second, "previous_champion", None)
    assert removed() == [first]

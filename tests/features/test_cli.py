"""A command line ends with one JSON object and an exit code, whatever its command does."""

import json
import os

import pytest

from features.cli import CommandLine, FailedError, SkippedError
from features.options import folder, from_flags
from features.places import Place


@from_flags
class TryRequest:
    """Try it. At length."""

    lake: Place = folder("lake", "the tables")


def outcome_of(run, capsys):
    def try_it(request: TryRequest):
        return run(request)

    command_line = CommandLine("features", description="", epilog="", commands={"try": try_it})
    code = command_line.main(["try"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


def raising(error):
    def run(request):
        raise error

    return run


def test_a_summary_is_the_last_line_and_prints_on_stdout_go_elsewhere(capsys):
    def run(request):
        print("a library talks")  # noqa: T201 - what the command line must catch
        return {"rows": 3}

    code, summary, err = outcome_of(run, capsys)
    assert (code, summary["job"], summary["rows"]) == (0, "try", 3)
    assert summary["seconds"] >= 0
    assert "a library talks" in err


def test_nothing_to_do_has_its_own_code_and_a_reason(capsys):
    code, summary, _ = outcome_of(raising(SkippedError("no champion yet")), capsys)
    assert (code, summary["skipped"]) == (99, "no champion yet")


@pytest.mark.parametrize(
    "error",
    [ValueError("rows: 0; at least 1"), ConnectionError("host: away"), KeyError("lost")],
)
def test_a_failure_says_why_on_both_streams(error, capsys):
    code, summary, err = outcome_of(raising(error), capsys)
    assert (code, summary["error"]) == (1, str(error))
    assert err.splitlines()[-1] == f"error: {error}"


def test_a_failure_can_bring_what_it_found(capsys):
    error = FailedError("1 critical rule broken", {"critical": ["rows: none"]})
    code, summary, _ = outcome_of(raising(error), capsys)
    assert code == 1
    assert summary["critical"] == ["rows: none"]


def test_folders_follow_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("RANKING_VAR", "/elsewhere")
    _, summary, _ = outcome_of(lambda request: {"lake": str(request.lake)}, capsys)
    assert summary["lake"] == "/elsewhere/lake"


def test_a_result_is_put_where_the_launcher_of_a_job_finds_it(anywhere, monkeypatch, capsys):
    """With the exit code, and whole; the commands that a command starts do not put theirs there."""
    found = anywhere / "results" / "try-1.json"
    seen = []
    for outcome, expected in ((lambda request: {"rows": 3}, 0), (raising(ValueError("no")), 1)):
        monkeypatch.setenv("RANKING_RESULT", str(found))

        def run(request, outcome=outcome):
            seen.append(os.environ.get("RANKING_RESULT"))
            return outcome(request)

        code, summary, _ = outcome_of(run, capsys)
        assert json.loads(found.read_bytes()) == {"exit_code": expected, "summary": summary}
        assert code == expected
    assert seen == [None, None]


def test_the_first_node_of_a_training_has_the_result(tmp_path, monkeypatch, capsys):
    """Every node runs the same command with the same environment."""
    monkeypatch.setenv("RANKING_RESULT", str(tmp_path / "train-1.json"))
    monkeypatch.setenv("PET_NODE_RANK", "1")
    outcome_of(lambda request: {"rows": 3}, capsys)
    assert list(tmp_path.iterdir()) == []

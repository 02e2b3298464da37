"""The command line: its flags, its exit codes, and what it imports."""

import datetime
import json
import subprocess
import sys

import pyarrow as pa
import pytest

from features.datasets.catalog import schema_of
from features.places import place
from features.prediction_log.table import LogTable
from serving.__main__ import main

PLACES = ["--store", "--artifacts", "--tracking"]
CLUSTER = ["--service", "--namespace", "--kubeconfig", "--context"]


def run(*arguments):
    command = [sys.executable, "-m", "serving", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "serve",
            [
                "--dataset",
                *PLACES,
                "--host",
                "--http-port",
                "--grpc-port",
                "--metrics-port",
                "--model",
                "--compiled",
            ],
        ),
        (
            "promote",
            [
                "--dataset",
                "--tracking",
                "--reports",
                "--date",
                "--version",
                "--endpoint",
                "--upscaled",
                "--again",
                "--max-unexplained",
                "--max-parity-age-hours",
                "--require-parity",
                *CLUSTER,
                "--force",
                "--ready-timeout-seconds",
            ],
        ),
        (
            "rollback",
            ["--dataset", *PLACES[1:], "--endpoint", "--to", *CLUSTER, "--ready-timeout-seconds"],
        ),
        ("shadow", ["--dataset", "--tracking", "--endpoint", "--version", "--percent"]),
        ("prune-log", ["--dataset", "--date", "--log", "--grace-hours"]),
    ],
)
def test_help_names_exactly_the_flags(capsys, command, flags):
    with pytest.raises(SystemExit) as exited:
        main([command, "--help"])
    text = capsys.readouterr().out
    shown = {word.rstrip(",]") for word in text.split() if word.startswith("--")}
    assert (exited.value.code, shown) == (0, {*flags, "--help"})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["serve"],
        ["serve", "--dataset", "nobody"],
        ["serve", "--dataset", "synthetic", "--dataset", "nobody"],
        ["serve", "--dataset", "synthetic", "--dataset", "synthetic"],
        ["serve", "--dataset", "synthetic", "--dataset", "open-bandit", "--model", "m"],
        ["promote", "--dataset", "synthetic"],
        ["promote", "--service", "ranker", "--date", "2025-06-09"],
        ["rollback"],
        ["rollback", "--dataset", "synthetic", "--service", "ranker"],
        ["rollback", "--service", "ranker", "--to", "v"],
        ["canary"],
        ["canary", "--date", "2025-06-09"],
        ["canary", "--date", "2025-06-09", "--version", "v"],
        ["canary", "--version", "v"],
        ["canary", "--version", "v", "--service", "ranker"],
        ["canary", "--version", "v", "--dataset", "synthetic", "--max-p95-ratio", "1"],
        ["promote", "--service", "ranker", "--upscaled"],
        ["promote", "--service", "ranker"],
        ["promote", "--dataset", "synthetic", "--date", "2025-06-09", "--version", "v"],
        [
            *("deploy", "--dataset=synthetic", "--service=ranker", "--version=v", "--dry-run"),
            *("--storage-uri=s3://x/y", "--image=i", "--store-claim=feast", "--min-replicas=5"),
        ],
    ],
)
def test_bad_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2


@pytest.mark.parametrize("dataset", ["movielens-100k", "open-bandit", "synthetic"])
def test_promote_without_a_decision_fails_with_one_line(capsys, tmp_path, dataset):
    arguments = [
        "promote",
        "--dataset",
        dataset,
        "--date",
        "2025-06-09",
        "--reports",
        str(tmp_path),
    ]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"].startswith("decision ")
    assert captured.err.splitlines()[-1].startswith("error: decision ")


@pytest.mark.process
def test_a_held_candidate_exits_with_99_and_imports_nothing_heavy(tmp_path):
    folder = tmp_path / "synthetic" / "gate" / "2025-06-09"
    folder.mkdir(parents=True)
    (folder / "decision.json").write_text(json.dumps({"decision": "hold", "reasons": ["few"]}))
    code = (
        "import sys; from serving.__main__ import main; "
        f"code = main(['promote', '--dataset', 'synthetic', '--date', '2025-06-09', "
        f"'--reports', {str(tmp_path)!r}]); "
        "heavy = {'torch', 'kserve', 'feast', 'mlflow', 'pyarrow'} & set(sys.modules); "
        "sys.exit(code if not heavy else 3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 99, done.stderr
    assert json.loads(done.stdout)["skipped"] == "the gate decided hold: few"


@pytest.mark.process
def test_the_command_line_starts_as_a_module():
    done = run("--help")
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert "promote" in done.stdout


def test_a_log_is_pruned_where_there_is_one(tmp_path, capsys, monkeypatch):
    """Days are counted back from the given one, by the setting."""
    arguments = ["prune-log", "--dataset", "synthetic", "--date", "2025-06-15", "--grace-hours=0"]
    monkeypatch.delenv("RANKING_LOG_FOLDER", raising=False)
    assert main(arguments) == 99
    monkeypatch.setenv("RANKING_LOG_FOLDER", str(tmp_path))
    assert main(arguments) == 99
    table = LogTable(place(tmp_path), schema_of("synthetic"))
    table.open()
    fields = [*table.columns, pa.field("day", pa.date32()), pa.field("hour", pa.int32())]
    for number in (13, 14, 15, 15):
        given = {"day": datetime.date(2025, 6, number), "hour": 12}
        arrays = [pa.array([given.get(field.name)], field.type) for field in fields]
        table.append(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), metadata={})
    monkeypatch.setenv("RANKING_LOG_KEEP_DAYS", "2")
    capsys.readouterr()
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["expired_files"], said["merged_files"], said["into_files"]) == (1, 2, 1)
    assert (said["log"], said["deleted"]["files"]) == (str(table.root), 3)

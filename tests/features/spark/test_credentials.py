"""Jobs find the keys of an object store in the environment, and show them nowhere."""

import json
import os
import uuid

import pytest
from support import forks


@pytest.mark.process
def test_no_log_output_or_file_of_a_job_holds_a_key(object_store, tmp_path):
    """A job that lands a log, one whose Spark tasks read it, and one that fails."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPARK_")},
        "RANKING_ROOT": f"{object_store.uri}/{tmp_path.name}",
        "RANKING_VAR": str(tmp_path),
    }

    wrong = uuid.uuid4().hex

    def run(command, *flags, **changed):
        name = ["-m", "features", command, "--dataset=synthetic-fields"]
        return forks.run([*name, *flags], {**environment, **changed})

    landed = run("fetch", "--rows=60", "--days=2")
    ingested = run("ingest", "--date=2025-01-01", "--to=2025-01-02", f"--lake={tmp_path}/lake")
    failed = run("fetch", "--rows=60", "--days=2", AWS_SECRET_ACCESS_KEY=wrong)
    assert [done.returncode for done in (landed, ingested, failed)] == [0, 0, 1], ingested.stderr
    assert json.loads(ingested.stdout.splitlines()[-1])["rows"] == 60
    shown = [text for done in (landed, ingested, failed) for text in (done.stdout, done.stderr)]
    shown += [file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file()]
    assert len(shown) > 6
    keys = [
        object_store.environment[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    ]
    assert [text for key in (*keys, wrong) for text in shown if key in text] == []

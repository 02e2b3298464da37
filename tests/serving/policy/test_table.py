"""A policy table that cannot be meant is refused, with the line and the key."""

import re
from pathlib import Path

import pytest

from features.datasets.schema_files.problems import SchemaFileError
from serving.policy.table import read_policy

FILE = Path(__file__).parents[3] / "infra" / "policy.yaml"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("then: alert", "then: page", r"rows\.0\.then: 'page'; expected 'alert'"),
        ("when: [drift]", "when: [price]", r"rows\.2\.when\.0: 'price'; expected 'parity'"),
        ("    replay_days: 10\n", "", r"rows\.2.*replay_days: at least 1 where then is retrain"),
        ("windows: 2", "windows: 0", r"rows\.1\.windows: '0'; expected greater than or equal to 1"),
        ("    runbook: drift\n", "", r"rows\.2.*needs a runbook"),
        ("min_requests", "min_request", r"rows\.1\.min_request.*do you mean min_requests"),
        ("when: [quality]", "when: [drift]", r"rows\.1.*roll-back: when must be \[quality\]"),
        ("name: drift-alone", "name: nothing", r"two have the name nothing"),
        ("when: []", "when: [drift]", r"the last one, and no other, holds always"),
    ],
)
def test_an_error_names_line_key_and_value(tmp_path, old, new, says):
    text = FILE.read_text()
    assert old in text
    wrong = tmp_path / "policy.yaml"
    wrong.write_text(text.replace(old, new))
    with pytest.raises(SchemaFileError, match=r"policy\.yaml:\d+: ") as raised:
        read_policy(wrong)
    assert re.search(says, str(raised.value)), raised.value


def test_every_row_has_its_runbook_and_its_drill():
    drills = (Path(__file__).parent / "test_drills.py").read_text()
    for row in read_policy(FILE).rows:
        assert f'"{row.name}"' in drills
        assert row.runbook is None or (FILE.parent / "runbooks" / f"{row.runbook}.md").exists()

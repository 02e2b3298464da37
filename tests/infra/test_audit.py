"""`make audit`: a finding, a clean list and a service that does not answer are distinguished."""

import json

import pytest

from infra.local import audit


def packages(*described):
    return json.dumps({"dependencies": list(described), "fixes": []})


GOOD = {"name": "sound", "version": "1.0", "vulns": []}
BAD = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "X-1", "fix_versions": ["2.10"]}]}
SKIPPED = {"name": "local", "skip_reason": "found on no index"}


@pytest.mark.parametrize(
    ("stdout", "code", "says"),
    [
        (packages(GOOD), 0, ["1 pinned packages audited, 0 known vulnerabilities"]),
        (
            packages(GOOD, BAD),
            1,
            [
                "jinja2 2.4.1: X-1; fixed in 2.10",
                "2 pinned packages audited, 1 known vulnerabilities",
            ],
        ),
        (
            packages(GOOD, SKIPPED),
            2,
            [
                "not audited: local: found on no index",
                "1 pinned packages audited, 0 known vulnerabilities",
            ],
        ),
    ],
)
def test_findings_decide_the_exit_code(stdout, code, says):
    assert audit.verdict(stdout, "") == (code, says)


def test_a_service_that_does_not_answer_is_no_clean_bill():
    code, lines = audit.verdict("", "Traceback\nConnectionError: Failed to resolve")
    assert code == 2
    assert lines[0].startswith("not audited: ")
    assert lines[0].endswith("Failed to resolve")

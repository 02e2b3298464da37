"""Looks the pinned packages up among the known vulnerabilities: ``make audit``.

pip-audit runs in an environment of its own, so that its dependencies stay out of .venv. It asks the
OSV service (https://osv.dev) about every line of requirements.txt and installs none of them.
Exit codes: 0 nothing known, 1 something known, 2 the audit did not complete.
"""

import json
import subprocess
import sys

from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY

PIP_AUDIT = "pip-audit==2.10.1"
REQUIREMENTS = REPOSITORY / "infra" / "requirements" / "requirements.txt"
OPTIONS = ["--no-deps", "--disable-pip", "--vulnerability-service=osv", "--format=json"]
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Audit, with further options of pip-audit if there are any, and say what was found."""
    uv = REPOSITORY / ".venv" / "bin" / "uv"
    command = [str(uv), "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit"]
    command += [f"--requirement={REQUIREMENTS}", *OPTIONS, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"not audited: {error}; `make install` sets uv up", file=sys.stderr)
        return UNKNOWN
    code, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines), file=sys.stdout if code == CLEAN else sys.stderr)
    return code


def verdict(stdout: str, stderr: str) -> tuple[int, list[str]]:
    """Exit code and report; pip-audit itself ends with 1 for a finding and for a failure."""
    try:
        packages: list[JsonObject] = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return UNKNOWN, [f"not audited: pip-audit or its advisory service did not answer: {last}"]
    found = [_line(package, known) for package in packages for known in package.get("vulns", ())]
    skipped = [f"not audited: {p['name']}: {p['skip_reason']}" for p in packages if skips(p)]
    audited = len(packages) - len(skipped)
    summary = f"{audited} pinned packages audited, {len(found)} known vulnerabilities"
    if found:
        return VULNERABLE, [*found, *skipped, summary]
    return UNKNOWN if skipped else CLEAN, [*skipped, summary]


def skips(package: JsonObject) -> bool:
    """Whether pip-audit left a package out."""
    return "skip_reason" in package


def _line(package: JsonObject, known: JsonObject) -> str:
    fixed = ", ".join(known.get("fix_versions", ())) or "no version yet"
    return f"{package['name']} {package['version']}: {known['id']}; fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The running server does what its own OpenAPI says: its codes, bodies, types and headers.

``make fuzz-serve`` runs this for minutes: RANKING_FUZZ_SECONDS is the time of each run here.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from serving.release.metrics_window import samples

ROOT = Path(__file__).resolve().parents[3]
SECONDS = os.environ.get("RANKING_FUZZ_SECONDS")
SEED = "20250618"


def fuzz(url, folder, *options, num_examples=30):
    """Run schemathesis in a process of its own; its report, which has no failure."""
    command = [str(Path(sys.executable).with_name("schemathesis"))]
    command += [f"--config-file={ROOT / 'infra' / 'drills' / 'schemathesis.toml'}", "run", url]
    command += ["--seed", SEED, "--warnings", "off", *options]
    command += ["--max-time", SECONDS] if SECONDS else ["--max-examples", str(num_examples)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def num_answered(server):
    seen = samples(server.http.get("/metrics").text)
    return sum(
        seen["ranking_version_requests_total", outcome] for outcome in ("complete", "degraded")
    )


def test_every_answer_is_as_openapi_says(server, tmp_path):
    before = num_answered(server)
    report = fuzz(f"{server.url}/openapi.json", tmp_path)
    selected, total = re.search(r"(\d+) selected / (\d+) total", report).groups()
    assert selected == total
    assert int(re.search(r"(\d+) generated", report)[1]) > 500
    # Not all of it got errors, or the answers would hardly have been looked at.
    assert num_answered(server) > before + 10
    assert server.http.get("/v2/health/ready").status_code == 200


def test_a_server_with_a_token_says_so_and_asks_for_it(guarded, tmp_path):
    made = guarded.certificates
    report = fuzz(
        f"{guarded.server.url}/openapi.json",
        tmp_path,
        f"--header=Authorization: Bearer {guarded.token}",
        f"--tls-verify={made.authority}",
        f"--request-cert={made.folder / 'client.crt'}",
        f"--request-cert-key={made.folder / 'client.key'}",
        "--checks=ignored_auth,status_code_conformance,response_headers_conformance",
        "--phases=examples,coverage",
        "--exclude-path-regex=(versions|infer)",
    )
    assert int(re.search(r"(\d+) generated", report)[1]) > 100
    document = guarded.server.http.get("/openapi.json", headers=guarded.headers).json()
    secured = {path for path, methods in document["paths"].items() if "security" in str(methods)}
    assert set(document["paths"]) - secured == {"/v2/health/live", "/v2/health/ready"}

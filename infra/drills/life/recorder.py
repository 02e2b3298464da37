"""What a Prometheus would have seen, and which alerts it would have raised from it.

The endpoint's metrics are read each second. For the rules a second counts as a minute, as the
drill's days are shorter too; Prometheus' own ``promtool`` evaluates the rules that are deployed.
"""

import collections
import http.client
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import yaml

from infra.local.settings import REPOSITORY

RULES = REPOSITORY / "infra" / "grafana" / "ranking-rules.yaml"
SCRAPE_SECONDS = 1.0
STEP = "1m"
_SAMPLE = re.compile(r"^(ranking_[a-z_]+(?:\{[^}]*\})?) (\S+)")


class Recorder:
    """A thread that reads the endpoint's metrics."""

    def __init__(self, url: str) -> None:
        """Args: where the metrics are."""
        self._url = url
        self._scrapes: list[dict[str, str]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(10)

    def moment(self) -> int:
        """For ``firing``: now."""
        return len(self._scrapes)

    def wait(self, scrapes: int) -> None:
        """Return when so many more have been read."""
        until, deadline = self.moment() + scrapes, time.monotonic() + 20 * scrapes
        while self.moment() < until:
            if time.monotonic() > deadline:
                raise RuntimeError(f"metrics: fewer than {scrapes} reads in {20 * scrapes} s")
            time.sleep(SCRAPE_SECONDS / 4)

    def firing(self, alert: str, *, metrics: str, since: int) -> bool:
        """Whether an alert fires at the end of what was read since a moment.

        Args:
            alert: Its name.
            metrics: The beginning of the names of the metrics that its rule reads.
            since: What ``moment`` said.
        """
        series: dict[str, list[str]] = collections.defaultdict(list)
        scrapes = self._scrapes[since:]
        for number, scrape in enumerate(scrapes):
            for name, value in scrape.items():
                if re.match(metrics, name):
                    values = series[name]
                    values += ["_"] * (number - len(values))  # absent until now
                    values.append(value)
        at = f"{max(1, len(scrapes) - 1)}m"
        test = {
            "interval": STEP,
            "input_series": [
                {"series": name, "values": " ".join(values)} for name, values in series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0',
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }
        document = {"rule_files": [str(RULES)], "evaluation_interval": STEP, "tests": [test]}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "recorded.yaml"
            file.write_text(yaml.safe_dump(document), encoding="utf-8")
            command = [shutil.which("promtool") or "promtool", "test", "rules", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        # It says FAILED where the sample is 0, and something else where it could not look.
        if done.returncode != 0 and "FAILED" not in done.stdout + done.stderr:
            raise RuntimeError(f"promtool: {done.stdout}{done.stderr}")
        return done.returncode == 0

    def _read_on(self) -> None:
        while not self._stopping.wait(SCRAPE_SECONDS):
            self._scrapes.append(self._read())

    def _read(self) -> dict[str, str]:
        try:
            with urllib.request.urlopen(self._url, timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException, ValueError):
            return {}  # as a scrape that failed
        return dict(found.groups() for line in text.splitlines() if (found := _SAMPLE.match(line)))  # type: ignore[misc]


def has_promtool() -> bool:
    """Whether rules can be evaluated here."""
    return shutil.which("promtool") is not None

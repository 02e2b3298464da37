"""``make bench-train``: the speed of training on two fixed configurations, a process for each."""

import json
import subprocess
import sys

from infra.local.network import JsonObject

KEYS = (
    *("samples_per_second", "gflops", "peak_gflops", "share_of_peak", "peak_memory_mb"),
    *("input_ratio", "input_ratio_2_ranks"),
)


def run(configuration: str) -> dict[str, float]:
    """One configuration's figures; processes of their own, so that its peak memory is its own."""
    by_ranks = _speed(configuration, "--ranks=2")["input_ratio_by_ranks"]
    return {**_speed(configuration), "input_ratio_2_ranks": by_ranks["2"]}


def _speed(configuration: str, *flags: str) -> JsonObject:
    command = [sys.executable, "-m", "training", "speed", "--configuration", configuration, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure both, print a table and one JSON object."""
    found = {name: run(name) for name in ("A", "B")}
    sys.stderr.write(f"{'':<4}" + "".join(f"{key:>20}" for key in KEYS) + "\n")
    for name, values in found.items():
        cells = "".join(f"{values[key]:>20,.2f}" for key in KEYS)
        sys.stderr.write(f"{name:<4}{cells}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""``make bench-train``: the speed of training on two fixed configurations, a process for each."""

import json
import subprocess
import sys

KEYS = ("samples_per_second", "gflops", "share_of_peak", "input_ratio", "peak_memory_mb")


def run(configuration: str) -> dict[str, float]:
    """One configuration's figures; a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", "training", "speed", "--configuration", configuration]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure both, print a table and one JSON object."""
    found = {name: run(name) for name in ("A", "B")}
    sys.stderr.write(f"{'':<4}" + "".join(f"{key:>20}" for key in (*KEYS, "peak_gflops")) + "\n")
    for name, values in found.items():
        cells = "".join(f"{values[key]:>20,.2f}" for key in (*KEYS, "peak_gflops"))
        sys.stderr.write(f"{name:<4}{cells}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""``make drill-hosts``, a host that comes back, in a process whose jobs are forked (forks.py)."""

import dataclasses
import json
import sys
from pathlib import Path

from infra.drills import hosts

lake, folder = map(Path, sys.argv[1:])
outcomes = hosts.drill(
    lake, folder, rounds=1, disturbances=hosts.DISTURBANCES[:1], recipe="wukong-tiny"
)
sys.stdout.write(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]) + "\n")

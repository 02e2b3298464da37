"""``make drill-train`` and ``make drill-hosts``, short, in a process whose jobs are forked."""

import dataclasses
import json
import sys
from pathlib import Path

from infra.drills import hosts, kill_training

name, lake, folder = sys.argv[1], *map(Path, sys.argv[2:])
if name == "kills":
    found = kill_training.drill(lake, folder, kills=2, ranks=2)
else:
    (outcome,) = hosts.drill(lake, folder, rounds=1, disturbances=hosts.DISTURBANCES[:1])
    found = dataclasses.asdict(outcome)
sys.stdout.write(json.dumps(found) + "\n")

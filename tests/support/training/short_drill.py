"""Two kills of ``make drill-train``, in a process whose jobs are forked (forks.py)."""

import json
import sys
from pathlib import Path

from infra.drills import kill_training

lake, folder = map(Path, sys.argv[1:])
sys.stdout.write(json.dumps(kill_training.drill(lake, folder, kills=2, ranks=2)) + "\n")

"""Many days of the whole stack, with faults; against the same days without any.

    python -m infra.drills.life              sixty days and thirty faults, as `make drill-life`
    python -m infra.drills.life --days 10 --faults 8

The stack of `make up` runs generated days, each as soon as the one before is well: the days' clock
is that fast. Faults are drawn by lot from a seed. Each must be named by the alert that its kind
has, is then healed as the alert's runbook says, and in the end nothing may be left of it: every
table and the last model are, to the bit, those of a run without faults. All along the endpoint is
asked, and the lake is read.

Progress goes to stderr; the last line of stdout is one JSON object, and `life.json` and `life.html`
in the drill's folder have it with a line for each fault. Exit code 1: something was not as it must
be.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from features.options import from_flags, option, parse
from features.pages import site
from features.places import place
from infra.drills.life.days import Life, is_well
from infra.drills.life.faults.catalog import KINDS
from infra.drills.life.page import page_of
from infra.drills.life.world import World
from infra.local.processes import end_recorded, end_trees, terminate_as_interrupt
from infra.local.settings import REPOSITORY


@from_flags
class LifeRequest:
    """Days of the whole stack with faults, and the same days without any."""

    days: int = option("that Airflow runs", default=60)
    faults: int | None = option(
        "that happen, at most one a day; without it on half of the days", default=None
    )
    rows: int = option("of the generated log, each day", default=2_500)
    seed: int = option("of the log, and of which fault meets which day", default=0)
    kinds: str = option("of faults, separated by `,`; empty: all that are possible", default="")
    folder: Path = option(
        "for all that it makes; what an earlier drill left there is removed",
        metavar="DIR",
        default=REPOSITORY / "var" / "life",
    )

    def __post_init__(self) -> None:
        """ValueError for a number out of its range, or a kind that is none."""
        for name in ("days", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: {getattr(self, name)}; at least 1")
        if not 0 <= self.num_faults < self.days:
            raise ValueError(
                f"--faults: {self.faults}; from 0 to {self.days - 1}, one less than days"
            )
        known = {kind.name for kind in KINDS}
        if unknown := self.asked - known:
            raise ValueError(f"--kinds {sorted(unknown)}: unknown; {sorted(known)}")

    @property
    def num_faults(self) -> int:
        """How many."""
        return self.days // 2 if self.faults is None else self.faults

    @property
    def asked(self) -> set[str]:
        """The names of the kinds; none: all."""
        return set(filter(None, self.kinds.split(",")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; returns the exit code."""
    request = parse(LifeRequest, prog="python -m infra.drills.life", arguments=arguments)
    terminate_as_interrupt()
    folder = request.folder.resolve()
    end_recorded(folder / "var" / "airflow" / "stack.json")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        world = World(folder, days=request.days, rows_per_day=request.rows, seed=request.seed)
        life = Life(world, faults=request.num_faults, seed=request.seed, asked=request.asked)
        summary = life.run()
    except KeyboardInterrupt:
        sys.stderr.write("ended before the end\n")
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        end_trees(child.pid for child in psutil.Process().children())
    text = json.dumps(summary)
    (folder / "life.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    site.write(page_of(summary), place(folder), "life.html")
    sys.stdout.write(f"{text}\n")
    return 0 if is_well(summary) else 1


if __name__ == "__main__":
    sys.exit(main())

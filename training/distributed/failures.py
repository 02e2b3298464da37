"""What a rank that failed leaves for the process that started it; imports no torch.

torchrun starts all ranks again when one of them ends, which helps a rank that was killed, and hides
the error message of one that failed: the others fail right after it, because their partner is gone.
So a rank writes down why it failed, and the process that started the ranks ends them all and
reports the reason. Of several hosts each has such a process, and a folder: there is one more, which
all of them see.
"""

import dataclasses
import json
import time
from pathlib import Path

from features.places import Place, place, put_whole

_PATTERN, _LOST = "failure-*.json", "lost"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a run of several ranks ended."""

    reason: str
    """The error of the rank that failed first; it names the rank unless all failed alike."""
    summary: dict[str, object]
    """Fields that are added to the command's JSON object."""


def report(folder: Path | Place, rank: int, error: BaseException) -> None:
    """Write down why a rank failed, whole or not at all."""
    content = {
        "rank": rank,
        "at": time.time(),
        "reason": str(error) or type(error).__name__,
        "summary": getattr(error, "summary", {}),
    }
    put_whole(place(folder) / f"failure-{rank}.json", json.dumps(content).encode())


def take_over(shared: Place, folder: Path) -> None:
    """Copy the failures of ranks of other hosts."""
    for path in shared.glob(_PATTERN):
        put_whole(place(folder) / path.name, path.read_bytes())


def note_loss(folder: Path) -> None:
    """Note that a rank of this host has lost another one, from now on."""
    (folder / _LOST).touch()


def note_join(folder: Path) -> None:
    """Note that the ranks of this host have found all others."""
    (folder / _LOST).unlink(missing_ok=True)


def seconds_lost(folder: Path) -> float:
    """For how long the ranks of this host have been without another one."""
    try:
        return time.time() - (folder / _LOST).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def reported(folder: Path, ranks: int) -> Failure | None:
    """The failure that the ranks of a run have written into a folder; None: there is none."""
    found = [json.loads(path.read_text()) for path in folder.glob(_PATTERN)]
    if not found:
        return None
    first = min(found, key=lambda one: one["at"])
    is_shared = len(found) == ranks and len({one["reason"] for one in found}) == 1
    reason = first["reason"] if is_shared else f"rank {first['rank']} of {ranks}: {first['reason']}"
    return Failure(reason, first["summary"])

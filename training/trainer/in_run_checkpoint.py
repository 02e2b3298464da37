"""Where a training run that is still going has come to: saved while it runs, found after a kill.

Every so many steps all ranks copy their tensors and go on; threads write the copies. A save counts
from the moment that its folder is renamed, with a manifest that has the position in the data and a
hash of every file, so that a half-written or damaged one is never taken for a whole one.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from training.checkpoint.catalog import MANIFEST, CorruptError, file_hashes, verify_files
from training.checkpoint.tensors import load_training_state, training_state
from training.data.batches import ORDER
from training.distributed.divergence import refuse_non_finite
from training.trainer.session import Session

logger = logging.getLogger(__name__)

_Saved = concurrent.futures.Future[Any]

KEPT = 2
"""Saves of a run; the one before the newest is there should the newest be damaged."""
_LAST_STEP = "last_step"


@dataclasses.dataclass(frozen=True)
class Position:
    """How much of a run's data has entered the weights; the same for any number of ranks."""

    epoch: int = 0
    batch: int = 0
    """Global batches of this epoch."""
    step: int = 0
    """Global batches of all epochs."""
    curve: tuple[dict[str, float], ...] = ()


class Progress:
    """The saves of one run, on every rank.

    Args:
        folder: Of this run alone.
        identity: What the run is made of; saves of another one, or of a version with another order
            of examples, are not taken.
        at_most: Steps that a kill may cost; 0: nothing is saved. Saves are begun twice as often:
            when one is begun, the one before it is whole.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, at_most: int) -> None:
        # A position under another order would repeat some examples and leave others out.
        content = json.dumps({**identity, "order": ORDER}, sort_keys=True, default=str)
        self.folder = folder / hashlib.sha256(content.encode()).hexdigest()[:16]
        self.every = -(-at_most // 2)
        # Of its own: a collective of the writing threads must not meet one of the training.
        self._group = dist.new_group(backend="gloo") if at_most else None
        self._writing: _Saved | None = None
        self._finishing = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def restore(self, session: Session) -> Position:
        """Load the newest whole save, if there is one; logs what was lost since."""
        found: list[Any] = [self._newest() if dist.get_rank() == 0 else None]
        dist.broadcast_object_list(found, src=0)
        if found[0] is None:
            return Position()
        name, values = found[0]
        load_training_state(self.folder / name, session.model, session.optimizer)
        position = Position(**values)
        session.steps = position.step
        if dist.get_rank() == 0:
            reached = self._reached()
            logger.warning(
                "resumed at step %d of a run that had reached step %d: %d steps are done again",
                *(position.step, reached, max(0, reached - position.step)),
            )
        return position

    def after_step(self, session: Session, position: Position) -> None:
        """Note the step, and save when it is time."""
        if not self.every:
            return
        if dist.get_rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _LAST_STEP).write_text(str(position.step))
        if position.step % self.every == 0:
            self._save(session, position)

    def wait(self) -> None:
        """Until the last save is whole: at most one is in memory."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def remove(self) -> None:
        """Drop all saves, of earlier attempts too: the run has its checkpoint."""
        self.wait()
        self._finishing.shutdown()
        dist.barrier()
        if dist.get_rank() == 0:
            shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _save(self, session: Session, position: Position) -> None:
        self.wait()
        state = training_state(session.model, session.optimizer)
        refuse_non_finite(state, position.step)
        staging = self.folder / f".writing-{position.step:09d}"
        if dist.get_rank() == 0:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        dist.barrier()
        saved = async_save(
            state, storage_writer=FileSystemWriter(str(staging)), process_group=self._group
        )
        self._writing = self._finishing.submit(
            self._complete, cast("_Saved", saved), staging, position
        )

    def _complete(self, saved: _Saved, staging: Path, position: Position) -> None:
        saved.result()
        if dist.get_rank() != 0:
            return
        manifest = {"position": dataclasses.asdict(position), "files": file_hashes(staging)}
        (staging / MANIFEST).write_text(json.dumps(manifest))
        target = self.folder / f"{position.step:09d}"
        # A damaged one, whose steps were done again: a whole one would have been gone on from.
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        for old in self._saves()[:-KEPT]:
            shutil.rmtree(self.folder / old)

    def _saves(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob(f"[0-9]*/{MANIFEST}"))

    def _newest(self) -> tuple[str, dict[str, Any]] | None:
        for name in reversed(self._saves()):
            try:
                manifest = json.loads((self.folder / name / MANIFEST).read_text())
                verify_files(self.folder / name, manifest["files"])
            except (CorruptError, json.JSONDecodeError) as error:
                logger.warning("%s; the save before it is taken", error)
                continue
            return name, manifest["position"]
        return None

    def _reached(self) -> int:
        path = self.folder / _LAST_STEP
        # A kill may have left it empty.
        return int(path.read_text() or 0) if path.exists() else 0

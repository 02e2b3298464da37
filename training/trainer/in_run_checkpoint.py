"""Where a training run that is still going has come to: saved while it runs, found after a kill.

Every so many steps all ranks copy their tensors and go on; threads write the copies. A save counts
from when its manifest is there, which is put last and has the position in the data and a hash of
every file, so that a half-written or damaged one is never taken for a whole one.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
from typing import Any, cast

import torch.distributed as dist
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict_saver import async_save

from features.places import Place, is_local, remove_folder
from training.checkpoint.catalog import MANIFEST, CorruptError, publish, verify_files
from training.checkpoint.storage import TensorsWriter, saving_group, tensors_folder
from training.checkpoint.tensors import load_training_state, training_state
from training.data.batches import ORDER
from training.distributed.divergence import refuse_non_finite
from training.distributed.process_group import agreed
from training.trainer.session import Session

logger = logging.getLogger(__name__)

_Saved = concurrent.futures.Future[Any]

KEPT = 2
"""Saves of a run; the one before the newest is there should the newest be damaged."""
_LAST_STEP = "last_step"
"""File with the newest step: of every one on a disk, of those with a save in an object store."""


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

    def __init__(self, folder: Place, identity: dict[str, Any], *, at_most: int) -> None:
        # A position under another order would repeat some examples and leave others out.
        content = json.dumps({**identity, "order": ORDER}, sort_keys=True, default=str)
        self.folder = folder / hashlib.sha256(content.encode()).hexdigest()[:16]
        self.every = -(-at_most // 2)
        self._group: dist.ProcessGroup | None = None
        self._writing: _Saved | None = None
        self._stager: BlockingAsyncStager | None = None
        self._finishing = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def restore(self, session: Session) -> Position:
        """Load the newest whole save, if there is one; logs what was lost since."""
        found = agreed(self._newest)
        if found is None:
            return Position()
        tensors, values = found
        load_training_state(tensors, session.model, session.optimizer)
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
        is_saved = position.step % self.every == 0
        if dist.get_rank() == 0 and (is_saved or is_local(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _LAST_STEP).write_text(str(position.step))
        if is_saved:
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
            remove_folder(self.folder.parent)

    def _save(self, session: Session, position: Position) -> None:
        self.wait()
        state = training_state(session.model, session.optimizer)
        refuse_non_finite(state, position.step)
        folder, tensors = self.folder / f"{position.step:09d}", tensors_folder()
        writer = TensorsWriter(folder / tensors)
        if self._group is None:
            # Of its own: a collective of the writing threads must not meet one of the training.
            self._group = saving_group(state)
        if self._stager is None:
            # On CUDA one copy in pinned memory, made once: the save before is written by now.
            is_cuda = session.device.type == "cuda"
            self._stager = BlockingAsyncStager(cache_staged_state_dict=is_cuda)
        saved = async_save(
            state, storage_writer=writer, process_group=self._group, async_stager=self._stager
        )
        manifest = {"position": dataclasses.asdict(position), "tensors": tensors}
        self._writing = self._finishing.submit(
            self._complete, cast("_Saved", saved), writer, folder, manifest
        )

    def _complete(
        self, saved: _Saved, writer: TensorsWriter, folder: Place, manifest: dict[str, Any]
    ) -> None:
        saved.result()
        files = writer.hashes(self._group)
        if dist.get_rank() != 0:
            return
        publish(folder, {**manifest, "files": files})
        kept = self._saves()[-KEPT:]
        for old in list(self.folder.glob("[0-9]*")):
            # Also what a killed run left half-written.
            if old.name not in kept:
                remove_folder(old, first=MANIFEST)

    def _saves(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob(f"[0-9]*/{MANIFEST}"))

    def _newest(self) -> tuple[Place, dict[str, Any]] | None:
        for name in reversed(self._saves()):
            try:
                manifest = json.loads((self.folder / name / MANIFEST).read_text())
                tensors = self.folder / name / manifest.get("tensors", "")
                verify_files(tensors, manifest["files"])
            except (CorruptError, json.JSONDecodeError) as error:
                logger.warning("%s; the save before it is taken", error)
                continue
            return tensors, manifest["position"]
        return None

    def _reached(self) -> int:
        path = self.folder / _LAST_STEP
        # A kill may have left it empty.
        return int(path.read_text() or 0) if path.exists() else 0

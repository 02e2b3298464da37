"""Steps over a stream of batches: one after the other, or ahead of the computation.

On CUDA TorchRec's ``TrainPipelineSparseDist`` copies the batch after next and exchanges the ids of
the next one while a step computes. Two batches have then been read that no weight has seen: what
counts as done is a ``Step``, never what was taken from the stream. Lookups wait for the step before
them, so the weights are the same to the bit as without it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor
from torchrec.distributed.train_pipeline.train_pipelines import TrainPipelineSparseDist

from training.config.recipe import Pipeline
from training.data.batch import Batch
from training.trainer.session import Session


@dataclasses.dataclass(frozen=True)
class Step:
    """A batch that has entered the weights."""

    batch: Batch
    """On this rank's device."""
    loss: Tensor
    logits: Tensor


class Steps(Protocol):
    """The steps of one pass over a stream."""

    def next(self, *, learning_rate_share: float) -> Step | None:
        """Take the next step; None when every batch of the stream has been used."""


@contextlib.contextmanager
def steps_over(session: Session, stream: Iterator[Batch]) -> Iterator[Steps]:
    """The steps over a stream, as the recipe and the device have them."""
    if not is_pipelined(session):
        yield _InTurn(session, stream)
        return
    steps = _Ahead(session, stream)
    try:
        yield steps
    finally:
        steps.detach()


def is_pipelined(session: Session) -> bool:
    """Whether batches are copied and exchanged ahead."""
    if session.config.pipeline is Pipeline.AUTO:
        return session.device.type == "cuda"
    return session.config.pipeline is Pipeline.ON


class _InTurn:
    def __init__(self, session: Session, stream: Iterator[Batch]) -> None:
        self._session = session
        self._stream = stream

    def next(self, *, learning_rate_share: float) -> Step | None:
        batch = next(self._stream, None)
        if batch is None:
            return None
        batch = batch.to(self._session.device)
        return Step(batch, *self._session.step(batch, learning_rate_share=learning_rate_share))


class _Ahead:
    def __init__(self, session: Session, stream: Iterator[Batch]) -> None:
        self._session = session
        is_cuda = session.device.type == "cuda"
        # A copy from memory that is not pinned would hold the computation up.
        self._stream = map(Batch.pin_memory, stream) if is_cuda else stream
        self._pipeline = TrainPipelineSparseDist(
            model=session.model,
            optimizer=session.optimizer,
            device=session.device,
            custom_model_fwd=self._forward,
        )

    def next(self, *, learning_rate_share: float) -> Step | None:
        self._session.begin_step(learning_rate_share)
        try:
            step: Step = self._pipeline.progress(self._stream)
        except StopIteration:
            return None
        self._session.end_step(learning_rate_share)
        return step

    def detach(self) -> None:
        """Give the model its own forward back, for predictions."""
        self._pipeline.detach()

    def _forward(self, batch: Batch) -> tuple[Tensor, Step]:
        loss, logits = self._session.forward(batch)
        return loss, Step(batch, loss.detach(), logits.detach())

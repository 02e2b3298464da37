"""The model repository: one model, whose version is wherever the alias ``champion`` points.

KServe's own repository loads nothing and says that it did; its extension hides the reason of a
failure behind a class name.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NoReturn

import kserve
import numpy as np
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from features.schema import Dtype, Schema
from serving import counters
from serving.calls import InferenceCall
from serving.predictor import NAME, Champion, Ranker, score
from serving.refusal import RefusedError
from serving.request import input_columns
from serving.tensors import Tensor

ALIAS = "champion"
WARM_UP_CANDIDATES = (1, 500)

logger = logging.getLogger(__name__)


class ChampionRepository(kserve.ModelRepository):
    """Holds the ranker, and puts the champion into it."""

    def __init__(
        self,
        ranker: Ranker,
        *,
        champion_version: Callable[[], str | None],
        load_champion: Callable[[str], Champion],
    ) -> None:
        """Hold a ranker that is filled on the first load.

        Args:
            ranker: The only model.
            champion_version: Where the alias points now; None: nowhere.
            load_champion: Opens and verifies the artifact of a version, its golden request
                included; raises where anything is wrong with it.
        """
        super().__init__()
        self._ranker = ranker
        self._champion_version = champion_version
        self._load_champion = load_champion
        self._one_at_a_time = threading.Lock()
        self._turn = asyncio.Lock()
        self.update(ranker)

    async def load(self, name: str) -> bool:
        """Swap to the champion of this moment; on any failure the old model stays."""
        _check_name(name)
        # Loads wait here, not in threads: those are for requests to infer.
        async with self._turn:
            await asyncio.to_thread(self.load_now)
        return True

    def load_model(self, name: str) -> bool:
        """The same for a caller without an event loop."""
        _check_name(name)
        self.load_now()
        return True

    def unload(self, name: str) -> NoReturn:
        """Refused: without its only model the endpoint has no use."""
        _check_name(name)
        raise RefusedError("model", name, "the only model stays loaded", status=HTTPStatus.CONFLICT)

    def load_now(self) -> None:
        """Read the alias, verify, warm up, swap.

        Raises:
            RefusedError: The alias points nowhere or its artifact fails; says why (409).
        """
        with self._one_at_a_time:
            started = time.monotonic()
            old = self._ranker.version
            version = self._champion_version()
            try:
                champion = self._verified(version)
            except Exception as error:
                counters.LOADS.labels("failed").inc()
                self._ranker.why_not_ready = f"{ALIAS} {version}: {error}"
                logger.exception("load failed: %s %s; %s stays", ALIAS, version, old)
                reason = f"{type(error).__name__}: {error}; {old or 'no version'} stays loaded"
                raise RefusedError(ALIAS, version, reason, status=HTTPStatus.CONFLICT) from error
            self._ranker.swap(champion)
            counters.load(champion.version)
            seconds = time.monotonic() - started
            logger.info(
                "load: %s -> %s, verified and warm in %.2f s", old, champion.version, seconds
            )

    def index(self) -> list[dict[str, str]]:
        """The repository's content, as the Open Inference Protocol lists it."""
        version = self._ranker.version
        state = {"state": "READY", "reason": ""}
        if version is None:
            state = {"state": "UNAVAILABLE", "reason": self._ranker.why_not_ready}
        return [{"name": NAME, "version": version or "", **state}]

    def _verified(self, version: str | None) -> Champion:
        if version is None:
            raise ValueError(f"alias {ALIAS}: not set; promote a version first")
        champion = self._load_champion(version)
        for size in WARM_UP_CANDIDATES:
            candidates = self._ranker.candidates(_made_up(self._ranker.schema, size))
            scores = score(champion, candidates.inputs, self._ranker.schema)
            if len(scores) != size or not np.isfinite(scores).all():
                raise ValueError(f"warm-up scores: {scores[:3]}; {size} finite numbers")
        return champion


class ChampionExtension(ModelRepositoryExtension):
    """What REST and gRPC call; lets a refusal through with its own words and status."""

    def __init__(self, repository: ChampionRepository) -> None:
        """Args: the repository."""
        super().__init__(repository)
        self._repository = repository

    async def load(self, model_name: str) -> None:
        """Load, or say why not."""
        await self._repository.load(model_name)

    async def unload(self, model_name: str) -> None:
        """Refused."""
        self._repository.unload(model_name)


def _check_name(name: str) -> None:
    if name != NAME:
        raise RefusedError("model", name, f"the only model is {NAME}", status=HTTPStatus.NOT_FOUND)


def _made_up(schema: Schema, size: int) -> InferenceCall:
    """A request of ids that need not exist: the whole path runs, and no feature is needed."""
    tensors = {}
    for column in input_columns(schema).values():
        if column in {schema.user, schema.item}:
            numbers = np.arange(1 if column == schema.user else size)
            is_text = column.dtype is Dtype.STRING
            values = [str(number) for number in numbers] if is_text else numbers
            tensors[column.name] = Tensor(column.name, "BYTES" if is_text else "INT64", values)
    return InferenceCall(id="warm-up", tensors=tensors, outputs={}, is_binary=False)

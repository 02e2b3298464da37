"""The model repository: one model, whose version is wherever the alias ``champion`` points.

WeightedModel it stand a canary and a challenger in the shadow, where the registry names them.
KServe's own repository loads nothing and says that it did; its extension hides the reason of a
failure behind a class name.
"""

import asyncio
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NoReturn, TypeVar

import kserve
import numpy as np
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from features.schema import Dtype, Schema
from serving.inference.ranker import NAME, Champion, Ranker
from serving.observability import metrics
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import input_columns
from serving.protocol.tensors import Tensor
from serving.routing.serving_versions import ServingVersions, WeightedModel
from serving.routing.traffic_split import Shares
from serving.settings import LOAD_SECONDS
from training.registry.aliases import CANARY, CHAMPION, SHADOW

Result = TypeVar("Result")
WARM_UP_CANDIDATES = (1, 500)

logger = logging.getLogger(__name__)


class _Wish:
    """Whether what a thread prepares is still wanted when it is ready.

    A thread cannot be stopped; but what it takes up after its caller was told that it will not
    would be a model that nobody knows of.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_done = self._is_given_up = False

    def give_up(self) -> bool:
        """Whether it is not taken up; False where that has begun already."""
        with self._lock:
            self._is_given_up = not self._is_done
            return self._is_given_up

    def take_up(self) -> None:
        """Say that it is taken up now; RequestError where nobody wants it any more."""
        with self._lock:
            if self._is_given_up:
                logger.warning("load: ready too late, and not taken up")
                raise _too_late()
            self._is_done = True


class ChampionRepository(kserve.ModelRepository):
    """Holds the ranker, and puts the champion into it."""

    def __init__(
        self,
        ranker: Ranker,
        *,
        champion_version: Callable[[], str | None],
        load_champion: Callable[[str], Champion],
        shares: Callable[[], Shares] = Shares,
    ) -> None:
        """Hold a ranker that is filled on the first load.

        Args:
            ranker: The only model.
            champion_version: Where the alias points now; None: nowhere.
            load_champion: Opens and verifies the artifact of a version, its golden request
                included; raises where anything is wrong with it.
            shares: Who is to stand beside the champion now.
        """
        super().__init__()
        self._ranker = ranker
        self._champion_version = champion_version
        self._load_champion = load_champion
        self._shares = shares
        self._one_at_a_time = threading.Lock()
        # A thread of its own: a load that took one of asyncio's would keep it from the requests.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="load")
        self._versions = metrics.LoadedVersions()
        self.update(ranker)

    def check_name(self, name: str) -> None:
        """Refuse (404) any name but that of the one model."""
        _check_name(name)

    async def load(self, name: str) -> bool:
        """Swap to the champion of this moment; on any failure the old model stays.

        Raises:
            RequestError: It cannot be loaded, or not within LOAD_SECONDS (409); what is loaded is
                then as it was, and stays so, whatever a thread is still at.
        """
        _check_name(name)
        await self._run(self.load_now)
        await self.rehearse()
        return True

    async def rehearse(self) -> None:
        """Have the champion answer a made-up request, as the first caller's will be; never fails.

        It has proven itself before: what goes wrong here, such as a store that is away, is what
        requests are answered without.
        """
        if self._ranker.lineup.champion is None:
            return
        try:
            await self._ranker.rehearse(_made_up(self._ranker.schema, max(WARM_UP_CANDIDATES)))
        except Exception:
            logger.warning("warm-up: the first request may be slow", exc_info=True)

    async def follow(self, name: str) -> dict[str, object]:
        """Let canary and shadow be who the registry says now; the champion stays; the lineup.

        Raises:
            RequestError: One of them cannot be loaded, or not within LOAD_SECONDS (409); the lineup
                is as it was.
        """
        _check_name(name)
        await self._run(self.follow_now)
        return self._ranker.lineup.told()

    def load_model(self, name: str) -> bool:
        """As ``load``, for a caller without an event loop."""
        _check_name(name)
        self.load_now()
        return True

    def unload(self, name: str) -> NoReturn:
        """Refused: without its only model the endpoint has no use."""
        _check_name(name)
        raise RequestError("model", name, "the only model stays loaded", status=HTTPStatus.CONFLICT)

    def load_now(self, wish: _Wish | None = None) -> None:
        """Read the aliases, verify, warm up, swap.

        A canary or a shadow that cannot be loaded is left out: it must not keep a champion away.

        Raises:
            RequestError: The alias points nowhere or its artifact fails; says why (409).
        """
        with self._one_at_a_time:
            started = time.monotonic()
            old = self._ranker.version
            asked = self._asked()
            champion = self._champion()
            beside = self._beside(champion.version, is_strict=False)
            self._require_asked(asked, wish)
            self._change(dataclasses.replace(beside, champion=champion))
            metrics.load(champion.version)
            seconds = time.monotonic() - started
            logger.info(
                "load: %s -> %s, verified and warm in %.2f s", old, champion.version, seconds
            )

    def follow_now(self, wish: _Wish | None = None) -> None:
        """As ``follow``, for a caller without an event loop."""
        with self._one_at_a_time:
            champion, asked = self._ranker.champion(), self._asked()
            beside = self._beside(champion.version, is_strict=True)
            self._require_asked(asked, wish)
            self._change(dataclasses.replace(beside, champion=champion))
            logger.info("lineup: %s", self._ranker.lineup.told())

    def index(self) -> list[dict[str, str]]:
        """The repository's content, as the Open Inference Protocol lists it."""
        lineup = self._ranker.lineup
        if lineup.champion is None:
            reason = self._ranker.why_not_ready
            return [{"name": NAME, "version": "", "state": "UNAVAILABLE", "reason": reason}]
        ready = {"name": NAME, "state": "READY", "reason": ""}
        return [{**ready, "version": model.version} for model in lineup.answering]

    async def _run(self, change: Callable[[_Wish], Result]) -> Result:
        """One change at a time, of which nothing comes once its caller has been told so."""
        wish = _Wish()
        future = asyncio.get_running_loop().run_in_executor(self._thread, change, wish)
        try:
            done, _ = await asyncio.wait({future}, timeout=LOAD_SECONDS)
        except asyncio.CancelledError:
            self._give_up(wish, future)
            raise
        if not done and self._give_up(wish, future):
            raise _too_late()
        return await future

    def _give_up(self, wish: _Wish, future: "asyncio.Future[Result]") -> bool:
        if not wish.give_up():
            return False
        # One that waits for its turn never begins; the failure of one that has is told by the log.
        future.cancel()
        return True

    def _asked(self) -> tuple[str | None, Shares]:
        """Who is to serve, as the registry says now."""
        return self._champion_version(), self._shares()

    def _require_asked(self, asked: tuple[str | None, Shares], wish: _Wish | None) -> None:
        """RequestError where what was prepared is not what is wanted any more.

        A load may take minutes. Whoever asked may have gone, and moved the aliases back.
        """
        now = self._asked()
        if now != asked:
            limit = f"{asked[0]} beside {asked[1]}, as when the load began; ask again"
            raise RequestError("registry", now, limit, status=HTTPStatus.CONFLICT)
        if wish is not None:
            wish.take_up()

    def _change(self, lineup: ServingVersions[Champion]) -> None:
        self._ranker.follow(lineup)
        champion = lineup.champion
        beside = {CANARY: lineup.canary, SHADOW: lineup.shadow}
        shares = {role: one.share for role, one in beside.items() if one}
        left = 100.0 - (shares[CANARY].percent if CANARY in shares else 0.0)
        self._versions.line_up(
            {
                CHAMPION: (champion.version, left) if champion else None,
                **{role: (share.version, share.percent) for role, share in shares.items()},
            }
        )

    def _champion(self) -> Champion:
        version = self._champion_version()
        try:
            return self._verified(version)
        except Exception as error:
            refused = self._refused(CHAMPION, version, error)
            self._ranker.why_not_ready = f"{CHAMPION} {version}: {error}"
            raise refused from error

    def _beside(self, champion: str, *, is_strict: bool) -> ServingVersions[Champion]:
        """Canary and shadow; what is loaded already is not loaded again."""
        now = self._ranker.lineup
        shares = self._shares()
        found: dict[str, WeightedModel[Champion] | None] = {}
        for role, share, loaded in (
            (CANARY, shares.canary, now.canary),
            (SHADOW, shares.shadow, now.shadow),
        ):
            # A champion has all requests already, and beside itself there is nothing to see.
            found[role] = None
            if share is not None and share.version != champion:
                try:
                    is_there = loaded is not None and loaded.model.version == share.version
                    model = loaded.model if loaded and is_there else self._verified(share.version)
                    found[role] = WeightedModel(model=model, share=share)
                except Exception as error:
                    refused = self._refused(role, share.version, error)
                    if is_strict:
                        raise refused from error
        return ServingVersions(canary=found[CANARY], shadow=found[SHADOW])

    def _refused(self, role: str, version: str | None, error: Exception) -> RequestError:
        """Tell and count a load that failed."""
        old = self._ranker.version
        metrics.LOADS.labels("failed").inc()
        logger.exception("load failed: %s %s; %s stays", role, version, old)
        reason = f"{type(error).__name__}: {error}; {old or 'no version'} stays loaded"
        return RequestError(role, version, reason, status=HTTPStatus.CONFLICT)

    def _verified(self, version: str | None) -> Champion:
        if version is None:
            raise ValueError(f"alias {CHAMPION}: not set; promote a version first")
        champion = self._load_champion(version)
        for size in WARM_UP_CANDIDATES:
            # A store that is away must not keep a version from being loaded.
            call = _made_up(self._ranker.schema, size)
            candidates = self._ranker.candidates_without_store(call)
            scores = champion.score(candidates.inputs)
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


def _too_late() -> RequestError:
    limit = f"within {LOAD_SECONDS:g} seconds; what was loaded before stays"
    return RequestError("load", "not done", limit, status=HTTPStatus.CONFLICT)


def _check_name(name: str) -> None:
    if name != NAME:
        raise RequestError("model", name, f"the only model is {NAME}", status=HTTPStatus.NOT_FOUND)


def _made_up(schema: Schema, size: int) -> InferenceCall:
    """A request of ids that need not exist."""
    tensors = {}
    for column in input_columns(schema).values():
        if column in {schema.user, schema.item}:
            numbers = np.arange(1 if column == schema.user else size)
            is_text = column.dtype is Dtype.STRING
            values = [str(number) for number in numbers] if is_text else numbers
            tensors[column.name] = Tensor(column.name, "BYTES" if is_text else "INT64", values)
    return InferenceCall(id="warm-up", tensors=tensors, outputs={}, is_binary=False)

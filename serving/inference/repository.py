"""The versions of a model as its registry has them: the alias ``champion`` says which answers.

A canary and a challenger in the shadow are loaded too, where the registry names them.
"""

import asyncio
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import TypeVar

from serving.inference.load_request import LoadRequest, check_scores
from serving.inference.ranker import Ranker
from serving.inference.ranker_repository import RankerRepository
from serving.observability import metrics
from serving.protocol.errors import RequestError
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Shares
from serving.settings import LOAD_SECONDS
from training.registry.aliases import CANARY, CHAMPION, SHADOW

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def _alone(versions: ServingVersions) -> AbstractContextManager[None]:
    """There is no other process."""
    return nullcontext()


class ChampionRepository(RankerRepository):
    """Loads the champion, canary and challenger that the registry names."""

    def __init__(
        self,
        ranker: Ranker,
        *,
        champion_version: Callable[[], str | None],
        load_champion: Callable[[str], Champion],
        shares: Callable[[], Shares] = Shares,
        prepared: Callable[[ServingVersions], AbstractContextManager[None]] = _alone,
    ) -> None:
        """Hold a ranker that is filled on the first load.

        Args:
            ranker: The model.
            champion_version: Where the alias points now; None: nowhere.
            load_champion: Opens and verifies the artifact of a version, its golden request
                included; raises where anything is wrong with it.
            shares: The canary and the challenger that the registry names now.
            prepared: Has other processes load versions that this one has verified, or raises; they
                serve them from the end of the block on, and drop them where it fails.
        """
        super().__init__(ranker)
        self._champion_version = champion_version
        self._load_champion = load_champion
        self._shares = shares
        self._prepared = prepared
        self._one_at_a_time = threading.Lock()
        # A thread of its own: a load that took one of asyncio's would keep it from the requests.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="load")

    async def load(self) -> None:
        """As ``RankerRepository`` has it."""
        await self.change(self.load_now)
        await self.warm_up()

    async def follow(self) -> dict[str, object]:
        """As ``RankerRepository`` has it."""
        await self.change(self.follow_now)
        return self.ranker.versions.to_dict()

    def load_now(self, request: LoadRequest | None = None) -> None:
        """Read the aliases, verify, warm up, swap.

        A canary or a shadow that cannot be loaded is left out: it must not keep a champion away.

        Raises:
            RequestError: The alias points nowhere or its artifact fails; says why (409).
        """
        with self._one_at_a_time:
            started = time.monotonic()
            old = self.ranker.version
            registered = self._registered()
            champion = self._champion()
            versions = self._canary_and_shadow(champion.version, is_strict=False)
            self._take_up(dataclasses.replace(versions, champion=champion), registered, request)
            metrics.LOADS.labels(self.ranker.name, "swapped").inc()
            seconds = time.monotonic() - started
            logger.info(
                "%s: load: %s -> %s, verified and warm in %.2f s",
                *(self.ranker.name, old, champion.version, seconds),
            )

    def follow_now(self, request: LoadRequest | None = None) -> None:
        """As ``follow``, for a caller without an event loop."""
        with self._one_at_a_time:
            champion, registered = self.ranker.champion(), self._registered()
            versions = self._canary_and_shadow(champion.version, is_strict=True)
            self._take_up(dataclasses.replace(versions, champion=champion), registered, request)
            logger.info(
                "%s: serving versions: %s", self.ranker.name, self.ranker.versions.to_dict()
            )

    def load_if_there_is_one(self) -> None:
        """What a server starts with: the champion, or why there is none."""
        try:
            self.load_now()
        except RequestError as error:
            # Up without this model: its readiness says so, and the next load can mend it.
            logger.warning("%s: serving without a version: %s", self.ranker.name, error)
        except Exception as error:
            # Whatever is wrong with its registry: the other models of the server have theirs.
            logger.exception("%s: serving without a version", self.ranker.name)
            self.ranker.why_not_ready = f"registry: {type(error).__name__}: {error}"

    async def change(self, change: Callable[[LoadRequest], Result]) -> Result:
        """Make one change at a time; without effect once its caller has got an error."""
        request = LoadRequest(LOAD_SECONDS)
        future = asyncio.get_running_loop().run_in_executor(self._thread, change, request)
        try:
            done, _ = await asyncio.wait({future}, timeout=LOAD_SECONDS)
        except asyncio.CancelledError:
            self._give_up(request, future)
            raise
        if not done and self._give_up(request, future):
            raise request.too_late()
        return await future

    def _give_up(self, request: LoadRequest, future: "asyncio.Future[Result]") -> bool:
        if not request.give_up():
            return False
        # A change that waits for its turn never begins. One that has begun logs its failure.
        future.cancel()
        return True

    def _registered(self) -> tuple[str | None, Shares]:
        """The champion's version and the shares that the registry names now."""
        return self._champion_version(), self._shares()

    def _take_up(
        self,
        versions: ServingVersions,
        registered: tuple[str | None, Shares],
        request: LoadRequest | None,
    ) -> None:
        """Serve versions; RequestError where the registry names others than when the load began.

        A load may take minutes. Its caller may have gone, and moved the aliases back.
        """
        with self._prepared(versions):
            now = self._registered()
            if now != registered:
                limit = f"{registered[0]} with {registered[1]}, as when the load began; ask again"
                raise RequestError("registry", now, limit, status=HTTPStatus.CONFLICT)
            if request is not None:
                request.begin_change()
            self.serve(versions)

    def _champion(self) -> Champion:
        version = self._champion_version()
        try:
            return self._verified(version)
        except Exception as error:
            failed = self._failed(CHAMPION, version, error)
            self.ranker.why_not_ready = f"{CHAMPION} {version}: {error}"
            raise failed from error

    def _canary_and_shadow(self, champion: str, *, is_strict: bool) -> ServingVersions:
        """Canary and shadow; what is loaded already is not loaded again."""
        now = self.ranker.versions
        shares = self._shares()
        found: dict[str, WeightedModel | None] = {}
        for role, share, loaded in (
            (CANARY, shares.canary, now.canary),
            (SHADOW, shares.shadow, now.shadow),
        ):
            # A champion has all requests already, and nothing to be compared with.
            found[role] = None
            if share is not None and share.version != champion:
                try:
                    is_there = loaded is not None and loaded.model.version == share.version
                    model = loaded.model if loaded and is_there else self._verified(share.version)
                    found[role] = WeightedModel(model=model, share=share)
                except Exception as error:
                    failed = self._failed(role, share.version, error)
                    if is_strict:
                        raise failed from error
        return ServingVersions(canary=found[CANARY], shadow=found[SHADOW])

    def _failed(self, role: str, version: str | None, error: Exception) -> RequestError:
        """Log and count a load that failed; the error for its caller."""
        old = self.ranker.version
        metrics.LOADS.labels(self.ranker.name, "failed").inc()
        logger.exception("%s: load failed: %s %s; %s stays", self.ranker.name, role, version, old)
        reason = f"{type(error).__name__}: {error}; {old or 'no version'} stays loaded"
        return RequestError(role, version, reason, status=HTTPStatus.CONFLICT)

    def _verified(self, version: str | None) -> Champion:
        if version is None:
            raise ValueError(f"alias {CHAMPION}: not set; promote a version first")
        champion = self._load_champion(version)
        check_scores(champion, self.ranker)
        return champion

"""The model repository: one model, whose version is wherever the alias ``champion`` points.

A canary and a challenger in the shadow are loaded too, where the registry names them. KServe's own
repository loads nothing and reports success; its extension hides the reason of a failure behind a
class name.
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
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serving.inference.load_request import (
    WARM_UP_CANDIDATES,
    LoadRequest,
    check_scores,
    warm_up_request,
)
from serving.inference.ranker import Ranker
from serving.observability import metrics
from serving.observability.version_metrics import LoadedVersions, set_champion
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import NAME, check_name
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Shares
from serving.settings import LOAD_SECONDS
from training.registry.aliases import CANARY, CHAMPION, SHADOW

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


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
            shares: The canary and the challenger that the registry names now.
        """
        super().__init__()
        self._ranker = ranker
        self._champion_version = champion_version
        self._load_champion = load_champion
        self._shares = shares
        self._one_at_a_time = threading.Lock()
        # A thread of its own: a load that took one of asyncio's would keep it from the requests.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="load")
        self._version_metrics = LoadedVersions()
        self.update(ranker)

    async def load(self, name: str) -> bool:
        """Swap to the champion of this moment; on any failure the old model stays.

        Raises:
            RequestError: It cannot be loaded, or not within LOAD_SECONDS (409). What was loaded
                before stays then, even if a thread goes on loading.
        """
        check_name(name)
        await self._run(self.load_now)
        await self.warm_up()
        return True

    async def warm_up(self) -> None:
        """Run a warm-up request, so that the first caller does not wait longer; never fails.

        The champion has passed its checks before. What fails here, such as a store that is away,
        degrades real requests too and does not keep the champion from serving.
        """
        if self._ranker.versions.champion is None:
            return
        try:
            call = warm_up_request(self._ranker.schema, max(WARM_UP_CANDIDATES))
            await self._ranker.warm_up(call)
        except Exception:
            logger.warning("warm-up: the first request may be slow", exc_info=True)

    async def follow(self, name: str) -> dict[str, object]:
        """Load the canary and the challenger that the registry names now; the champion stays.

        Returns:
            The versions that serve, as ``ServingVersions.to_dict`` has them.

        Raises:
            RequestError: One of them cannot be loaded, or not within LOAD_SECONDS (409). The
                versions that served before stay then.
        """
        check_name(name)
        await self._run(self.follow_now)
        return self._ranker.versions.to_dict()

    def unload(self, name: str) -> NoReturn:
        """RequestError (409): without its only model the endpoint has no use."""
        check_name(name)
        raise RequestError("model", name, "the only model stays loaded", status=HTTPStatus.CONFLICT)

    def load_now(self, request: LoadRequest | None = None) -> None:
        """Read the aliases, verify, warm up, swap.

        A canary or a shadow that cannot be loaded is left out: it must not keep a champion away.

        Raises:
            RequestError: The alias points nowhere or its artifact fails; says why (409).
        """
        with self._one_at_a_time:
            started = time.monotonic()
            old = self._ranker.version
            registered = self._registered()
            champion = self._champion()
            versions = self._canary_and_shadow(champion.version, is_strict=False)
            self._require_unchanged(registered, request)
            self._serve(dataclasses.replace(versions, champion=champion))
            set_champion(champion.version)
            seconds = time.monotonic() - started
            logger.info(
                "load: %s -> %s, verified and warm in %.2f s", old, champion.version, seconds
            )

    def follow_now(self, request: LoadRequest | None = None) -> None:
        """As ``follow``, for a caller without an event loop."""
        with self._one_at_a_time:
            champion, registered = self._ranker.champion(), self._registered()
            versions = self._canary_and_shadow(champion.version, is_strict=True)
            self._require_unchanged(registered, request)
            self._serve(dataclasses.replace(versions, champion=champion))
            logger.info("serving versions: %s", self._ranker.versions.to_dict())

    def index(self) -> list[dict[str, str]]:
        """The repository's content, as the Open Inference Protocol lists it."""
        versions = self._ranker.versions
        if versions.champion is None:
            reason = self._ranker.why_not_ready
            return [{"name": NAME, "version": "", "state": "UNAVAILABLE", "reason": reason}]
        ready = {"name": NAME, "state": "READY", "reason": ""}
        return [{**ready, "version": model.version} for model in versions.answering]

    async def _run(self, change: Callable[[LoadRequest], Result]) -> Result:
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

    def _require_unchanged(
        self, registered: tuple[str | None, Shares], request: LoadRequest | None
    ) -> None:
        """RequestError where the registry names other versions than those that were loaded.

        A load may take minutes. Its caller may have gone, and moved the aliases back.
        """
        now = self._registered()
        if now != registered:
            limit = f"{registered[0]} with {registered[1]}, as when the load began; ask again"
            raise RequestError("registry", now, limit, status=HTTPStatus.CONFLICT)
        if request is not None:
            request.begin_change()

    def _serve(self, versions: ServingVersions) -> None:
        self._ranker.follow(versions)
        champion = versions.champion
        weighted = {CANARY: versions.canary, SHADOW: versions.shadow}
        shares = {role: one.share for role, one in weighted.items() if one}
        left = 100.0 - (shares[CANARY].percent if CANARY in shares else 0.0)
        self._version_metrics.set_roles(
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
            failed = self._failed(CHAMPION, version, error)
            self._ranker.why_not_ready = f"{CHAMPION} {version}: {error}"
            raise failed from error

    def _canary_and_shadow(self, champion: str, *, is_strict: bool) -> ServingVersions:
        """Canary and shadow; what is loaded already is not loaded again."""
        now = self._ranker.versions
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
        old = self._ranker.version
        metrics.LOADS.labels("failed").inc()
        logger.exception("load failed: %s %s; %s stays", role, version, old)
        reason = f"{type(error).__name__}: {error}; {old or 'no version'} stays loaded"
        return RequestError(role, version, reason, status=HTTPStatus.CONFLICT)

    def _verified(self, version: str | None) -> Champion:
        if version is None:
            raise ValueError(f"alias {CHAMPION}: not set; promote a version first")
        champion = self._load_champion(version)
        check_scores(champion, self._ranker)
        return champion


class ChampionExtension(ModelRepositoryExtension):
    """What REST and gRPC call; an error keeps its own text and status."""

    def __init__(self, repository: ChampionRepository) -> None:
        """Args: the repository."""
        super().__init__(repository)
        self._repository = repository

    async def load(self, model_name: str) -> None:
        """Load, or say why not."""
        await self._repository.load(model_name)

    async def unload(self, model_name: str) -> None:
        """RequestError (409), always."""
        self._repository.unload(model_name)

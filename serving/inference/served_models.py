"""All models of a server, by name: one that cannot be loaded leaves the others be."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import NoReturn

import kserve

from serving.admission import Admission
from serving.inference.ranker import Ranker
from serving.inference.ranker_repository import RankerRepository
from serving.observability import request_metrics
from serving.protocol.errors import RequestError


class ServedModels(kserve.ModelRepository):
    """What KServe's server calls of a repository.

    KServe's own loads nothing and reports success.
    """

    def __init__(self, repositories: Sequence[RankerRepository], admission: Admission) -> None:
        """Hold the models; which they are does not change.

        Args:
            repositories: One for each model.
            admission: Of all of them.
        """
        super().__init__()
        self.admission = admission
        self._repositories = {one.ranker.name: one for one in repositories}
        for one in repositories:
            self.update(one.ranker)

    @property
    def rankers(self) -> list[Ranker]:
        """All models, in the order in which the server was given them."""
        return [one.ranker for one in self._repositories.values()]

    @property
    def versions(self) -> dict[str, str | None]:
        """The champion of each model; None where none is loaded."""
        return {ranker.name: ranker.version for ranker in self.rankers}

    def ranker(self, name: str) -> Ranker:
        """The model that a call asks for; RequestError (404) where there is none of this name."""
        return self._named(name).ranker

    def _named(self, name: str) -> RankerRepository:
        if name not in self._repositories:
            *others, last = self._repositories
            known = f"the models are {', '.join(others)} and {last}" if others else ""
            limit = known or f"the only model is {last}"
            raise RequestError("model", name, limit, status=HTTPStatus.NOT_FOUND)
        request_metrics.asks_for(name)
        return self._repositories[name]

    async def load(self, name: str) -> bool:
        """Swap a model to its champion of this moment; raises as its repository does."""
        await self._named(name).load()
        return True

    async def follow(self, name: str) -> dict[str, object]:
        """Have a model follow the registry; returns and raises as its repository does."""
        return await self._named(name).follow()

    def unload(self, name: str) -> NoReturn:
        """RequestError (409): the server was started to serve them, and keeps them."""
        self._named(name)
        limit = "a model stays loaded for as long as its server runs"
        raise RequestError("model", name, limit, status=HTTPStatus.CONFLICT)

    def index(self) -> list[dict[str, str]]:
        """All versions of all models, as the Open Inference Protocol lists them."""
        return [entry for one in self._repositories.values() for entry in one.index()]

    def shown_versions(self) -> set[tuple[str, str]]:
        """The versions that have series in the metrics, by model and version."""
        return {
            (name, version)
            for name, one in self._repositories.items()
            for version in one.shown_versions()
        }

    async def warm_up(self) -> None:
        """Run a warm-up request of each model that has a champion; never fails."""
        await asyncio.gather(*(one.warm_up() for one in self._repositories.values()))

    def start(self) -> None:
        """Start the threads that requests hand their answers to.

        Raises:
            OSError: The place of the log cannot be made or reached.
            ValueError: A schema has a column of a name that is the log's own.
        """
        for ranker in self.rankers:
            ranker.offers.start()

    def stop(self) -> None:
        """End them; what waits to be logged is written."""
        for ranker in self.rankers:
            ranker.offers.stop()

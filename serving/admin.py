"""Paths that steer who answers: REST only, under the token like all the others.

They name no version: who is to serve is in the registry, and the server is told to look again. So
no caller can have a file opened that the registry does not name.
"""

from typing import Any

from fastapi import FastAPI

from serving.predictor import NAME, Ranker
from serving.repository import ChampionRepository

PATH = "/v2/repository/models/{model_name}/lineup"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such model."},
    409: {"description": "A version of the lineup cannot be loaded; the lineup is as it was."},
    503: {"description": "No champion is loaded."},
}


class LineupRoutes:
    """Reads and renews the lineup."""

    def __init__(self, ranker: Ranker, *, repository: ChampionRepository) -> None:
        """Args: the model, and the repository that loads it."""
        self._ranker = ranker
        self._repository = repository

    def register(self, app: FastAPI) -> None:
        """Add the paths to an app."""
        app.add_api_route(PATH, self.read, methods=["GET"], responses={404: _RESPONSES[404]})
        app.add_api_route(PATH, self.renew, methods=["POST"], responses=_RESPONSES)

    async def read(self, model_name: str) -> dict[str, object]:
        """Champion, canary and shadow: versions and shares."""
        self._repository.check_name(model_name)
        return {"name": NAME, **self._ranker.lineup.told()}

    async def renew(self, model_name: str) -> dict[str, object]:
        """Let canary and shadow be who the registry says now."""
        return {"name": NAME, **await self._repository.follow(model_name)}

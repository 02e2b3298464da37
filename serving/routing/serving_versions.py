"""Which version answers a request, and which one scores it in the shadow.

``ServingVersions`` is immutable: a new object replaces it in one assignment, and a request uses the
object that it found. So no request sees half of a change.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from features.encoding.encode import RequestInputs
from features.schema import Schema
from serving.observability.answered import ALL, STABLE, Arm
from serving.protocol.inference_request import InferenceCall
from serving.routing.traffic_split import Share
from training.registry.aliases import CANARY, CHAMPION

PAIRED_PERCENT = 10.0
"""Of all requests: those of a canary's answers that the champion scores too, at most."""
_ALL = 100.0


Scores = npt.NDArray[np.float32]
Score = Callable[[RequestInputs], Scores]
"""From what the transformer made of a request to probabilities, in its order."""


@dataclasses.dataclass(frozen=True)
class Champion:
    """A verified artifact: its version, and how it scores."""

    version: str
    score: Score
    score_alone: Score | None = None
    """The same on more threads, for a request that has the server to itself; called from one thread
    only, for each thread that calls it has a team of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedModel:
    """A loaded model that is not the champion, and its share of the requests."""

    model: Champion
    share: Share


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingVersions:
    """The loaded models and their roles."""

    champion: Champion | None = None
    canary: WeightedModel | None = None
    shadow: WeightedModel | None = None

    @property
    def answering(self) -> list[Champion]:
        """The models that may answer, the champion first."""
        canary = [self.canary.model] if self.canary else []
        return [self.champion, *canary] if self.champion else []

    def named(self, version: str) -> Champion | None:
        """The model of a version, among those that may answer."""
        return next((model for model in self.answering if model.version == version), None)

    def arm_of(self, key: str) -> Arm:
        """The side of the split that has the requests of a key."""
        if self.canary is None:
            return ALL
        share = self.canary.share
        if share.covers(key):
            return Arm(CANARY, share.percent, share.salt)
        return Arm(STABLE, _ALL - share.percent, share.salt)

    def model_of(self, arm: Arm) -> Champion | None:
        """The model that answers the requests of a side; None where none is loaded."""
        if self.champion and self.canary and arm.name == CANARY:
            return self.canary.model
        return self.champion

    def pair_of(self, version: str) -> WeightedModel | None:
        """The champion and its share of a version's answers to score, where that is the canary.

        The share keeps the work bounded: one in ``100 / PAIRED_PERCENT`` requests is scored twice.
        """
        canary = self.canary
        if self.champion is None or canary is None or canary.model.version != version:
            return None
        percent = min(_ALL, _ALL * PAIRED_PERCENT / max(canary.share.percent, 1.0))
        share = Share(version=self.champion.version, percent=percent)
        return WeightedModel(model=self.champion, share=share)

    def role_of(self, version: str) -> str:
        """In which role a version answers."""
        is_canary = self.canary is not None and self.canary.model.version == version
        return CANARY if is_canary else CHAMPION

    def to_dict(self) -> dict[str, object]:
        """Versions and shares, for people and for the commands."""
        weighted = {"canary": self.canary, "shadow": self.shadow}
        return {
            "champion": self.champion.version if self.champion else None,
            **{
                role: {"version": one.model.version, "percent": one.share.percent} if one else None
                for role, one in weighted.items()
            },
        }


def key_of(schema: Schema, call: InferenceCall) -> str:
    """The key by which a call is routed: its first user, or its id where there is no user.

    The call has not been checked yet: the model that answers rejects what is no user id.
    """
    tensor = call.tensors.get(schema.user.name) if schema.user else None
    return call.id if tensor is None or not len(tensor.values) else str(tensor.values[0])

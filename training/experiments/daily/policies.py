"""What may be done with a day once its labels are there."""

import dataclasses

from training.config.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What is done after each day that was predicted; None: as the recipe has it."""

    is_warm: bool = True
    """Whether the ranker goes on from the day before's and learns the new day."""
    cold_every: int = 0
    """Days from one training from scratch, on all days so far, to the next; 0: there is none."""
    rate: float | None = None
    """Learning rates of a warm run, as a share of the full ones."""
    passes: int | None = None
    """Of a warm run over its days."""
    batch_size: int | None = None
    """Of a warm run."""
    replayed_days: int = 0
    """Earlier days that a warm run learns once more, with the new one."""
    recalibrated_on: int = 0
    """Newest predicted days to which the scale and shift of the next day's logits are fitted; 0:
    scores are the ranker's own."""

    def __post_init__(self) -> None:
        """ValueError for a number of days below 0."""
        for name in ("cold_every", "replayed_days", "recalibrated_on"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}; at least 0")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of its warm runs."""
        asked = {
            "final_learning_rate_share": self.rate,
            "warm_epochs": self.passes,
            "batch_size": self.batch_size,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return recipe.with_training(**given)


USUAL, NEVER = "as the recipe", "never retrained"
POLICIES = {
    USUAL: Policy(),
    NEVER: Policy(is_warm=False),
    "from scratch daily": Policy(cold_every=1),
    "from scratch weekly": Policy(cold_every=7),
    "rate 0.03": Policy(rate=0.03),
    "rate 0.3": Policy(rate=0.3),
    "rate 1": Policy(rate=1.0),
    "3 passes": Policy(passes=3),
    "batch 128": Policy(batch_size=128),
    "batch 64 at rate 0.3": Policy(batch_size=64, rate=0.3),
    "7 days replayed": Policy(replayed_days=7),
    "recalibrated on 1 day": Policy(recalibrated_on=1),
    "recalibrated on 7 days": Policy(recalibrated_on=7),
    "recalibrated alone": Policy(is_warm=False, recalibrated_on=7),
}
"""By name; those of warm runs change one thing of the recipe's, or two."""

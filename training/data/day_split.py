"""Days of a log in the three parts of a study: to train on, to choose on, to judge on."""

import dataclasses
import datetime
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Days:
    """Days to train on, to choose learning rates on, and to judge on, in this order in time."""

    train: Sequence[datetime.date]
    valid: Sequence[datetime.date]
    test: Sequence[datetime.date]

    @classmethod
    def of(cls, days: Sequence[datetime.date]) -> "Days":
        """The last eighth judges, the eighth before chooses.

        Raises:
            ValueError: There are too few days.
        """
        eighth = max(1, len(days) // 8)
        if len(days) < 3:
            raise ValueError(f"days with examples: {len(days)}; at least 3")
        return cls(days[: -2 * eighth], days[-2 * eighth : -eighth], days[-eighth:])

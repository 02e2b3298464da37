"""Candidates that differ most, as examples in reports."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.parity.causes import CAUSES
from features.parity.lake_rows import moment_of
from features.parity.replay import TableReplay

Codes = npt.NDArray[np.int8]
"""(N,) the place of each candidate's cause in ``CAUSES``; -1 where nothing differs."""
_EXAMPLES = 3
"""Of each table and cause."""
_MOST_CHARACTERS = 80


def worst_rows(
    one: TableReplay, codes: Mapping[str, Codes], rows: pa.Table
) -> Iterator[dict[str, object]]:
    """The candidates with most differing features, of each cause some."""
    for place, cause in enumerate(CAUSES):
        numbers = np.sum([of_feature == place for of_feature in codes.values()], axis=0)
        worst = np.argsort(-numbers, kind="stable")[:_EXAMPLES]
        for row in worst[numbers[worst] > 0].tolist():
            names = [name for name, of_feature in codes.items() if of_feature[row] == place]
            shown = next((name for name in names if name in one.served.values), "")
            values = one.values(shown) if shown else ()
            given = [_text(side[row].as_py()) for side in values] or ["", ""]
            event, created = one.expected.times
            yield {
                "cause": cause.value,
                "table": one.table.name,
                "answer_id": rows.column("answer_id")[row].as_py(),
                "place": rows.column("place")[row].as_py(),
                "features": names,
                "feature": shown,
                "served": given[0],
                "expected": given[1],
                "served_row": _times(int(one.served.event[row]), int(one.served.created[row])),
                "expected_row": _times(int(event[row]), int(created[row])),
                "read_at": rows.column("read_at")[row].as_py().isoformat(),
            }


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _times(event: int, created: int) -> str:
    """A row by its event and, where another, by when it was made available."""
    if event < 0:
        return "none"
    texts = dict.fromkeys(moment_of(one).isoformat() for one in (event, created))
    return ", available ".join(texts)

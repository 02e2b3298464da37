"""The page of a comparison: what differs, of which feature, why, and examples."""

from collections.abc import Iterator, Sequence

from features.pages.content import (
    Block,
    Bullets,
    Cell,
    Heading,
    Notice,
    Page,
    Prose,
    Table,
    Tone,
    Value,
)
from features.parity.causes import CAUSES, MEANINGS, Cause
from features.parity.comparison import Comparison, Tally
from features.parity.logged import Sample

_PLACES = 3


def parity_page(title: str, sample: Sample, found: Comparison, *, max_unexplained: float) -> Page:
    """The page of a window.

    Args:
        title: Data set and window.
        sample: What was compared.
        found: What came of it.
        max_unexplained: Share above which parity is broken.
    """
    share = found.share(Cause.UNEXPLAINED)
    is_broken = share > max_unexplained
    verdict, tone = ("broken", Tone.BAD) if is_broken else ("kept", Tone.GOOD)
    if not found.compared:
        verdict, tone = "nothing compared", Tone.UNSURE
    words = f"{share:.3%} of the candidates have a mismatch without a cause; at most "
    words += f"{max_unexplained:.3%}"
    return Page(
        title,
        [
            *([Notice(words, Tone.BAD)] if is_broken else []),
            *_not_judged(found),
            Prose(_size(sample, found)),
            Heading("By cause"),
            Table(("cause", "share of candidates", "what it means"), list(_by_cause(found))),
            *_features(found),
            *_examples(found),
        ],
        verdict=verdict,
        tone=tone,
    )


def _size(sample: Sample, found: Comparison) -> str:
    part = "all" if sample.kept_share == 1 else f"{sample.kept_share:.2%}"
    return (
        f"{len(sample.rows):,} logged candidates of {sample.num_answers:,} answers, {part} of what "
        f"was logged; they stand for {sample.weights.sum():,.0f} candidates that were answered. "
        f"{_share(found.mismatched, found.compared)} of those compared differ in any feature."
    )


def _not_judged(found: Comparison) -> Iterator[Block]:
    sentences = [
        f"{table}: {number:,} candidates not judged: {reason.replace('_', ' ')}"
        for table, reasons in found.not_judged.items()
        for reason, number in reasons.items()
    ]
    sentences += [f"{name}: the log has no such column" for name in found.not_logged]
    if sentences:
        yield Bullets(sentences)


def _by_cause(found: Comparison) -> Iterator[tuple[Cell | str, ...]]:
    for cause in CAUSES:
        weight = found.by_cause[cause]
        tone = Tone.BAD if weight and cause is Cause.UNEXPLAINED else Tone.PLAIN
        text = _share(weight, found.compared)
        yield cause.value, Cell(text, tone=tone, is_number=True), MEANINGS[cause]


def _features(found: Comparison) -> Iterator[Block]:
    differing = sorted((one for one in found.tallies if one.rows), key=_worst_first)
    if not differing:
        return
    causes = [cause for cause in CAUSES if any(cause in one.by_cause for one in differing)]
    yield Heading("By feature: share of candidates whose value, or input, is another one")
    columns = ("table", "feature", "any cause", "as an input", *(cause.value for cause in causes))
    rows: list[Sequence[Value]] = [
        (
            one.table,
            one.feature,
            *(
                Cell(_share(weight, one.compared), is_number=True)
                for weight in (
                    one.mismatched,
                    one.encoded,
                    *(one.by_cause.get(cause, 0.0) for cause in causes),
                )
            ),
        )
        for one in differing
    ]
    yield Table(columns, rows)


def _worst_first(one: Tally) -> tuple[float, float, str]:
    unexplained = one.by_cause.get(Cause.UNEXPLAINED, 0.0)
    return -unexplained, -one.mismatched, one.feature


def _examples(found: Comparison) -> Iterator[Block]:
    if not found.examples:
        return
    yield Heading("Candidates that differ most, of each table and cause")
    names = ("cause", "table", "answer_id", "place", "feature", "served", "expected")
    times = ("served_row", "expected_row", "read_at")
    columns = (*names, "served row", "expected row", "read at")
    yield Table(columns, [[str(one[name]) for name in (*names, *times)] for one in found.examples])


def _share(weight: float, whole: float) -> str:
    return f"{weight / whole:.{_PLACES}%}" if weight and whole else "0 %"

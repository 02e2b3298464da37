"""The request of ``python -m training explain``."""

from features.options import OfDataset, count, folder, from_flags, option
from features.places import Place, place


@from_flags
class ExplainRequest(OfDataset):
    """Say which rows made a score, from an answer of the prediction log.

    Prints the answer, its version, the days that this has learnt, the feature rows that were read,
    and the landed rows behind them: counted, held in quarantine or re-admitted.
    """

    answer: str = option("`answer_id` of the response", metavar="ANSWER_ID")
    log: Place | None = option(
        "folder of the prediction logs (else RANKING_LOG_FOLDER)",
        parse=place,
        metavar="DIR",
        default=None,
    )
    item: str = option("of the answer (else the first by rank)", default="")
    rows: int = option("most candidates and impressions to list", parse=count, default=20)
    lake: Place = folder("lake", "the Parquet tables")
    landing: Place = folder("landing", "where the log lands, one file a day")
    checkpoints: Place = folder("checkpoints", "the training checkpoints")
    artifacts: Place = folder("artifacts", "the exported rankers")

"""The first training of a ranker that has grown."""

from training.checkpoint.catalog import CONTROL, GROWN, Checkpoint


def is_begun_anew(role: str, parent: Checkpoint) -> bool:
    """Whether a run from a parent trains at the full learning rates, as a cold run does.

    What has just grown has much to learn; the other side of a trial gets the same, so that growth
    alone tells them apart. Days after that go on at the rates of a warm run.
    """
    return parent.manifest.growth is not None or role in {GROWN, CONTROL}

"""The feature tables of a draft that are computed of impressions."""

from features.draft.commented_yaml import Guess
from features.draft.entries import Entry

_HISTORY = 20
_WINDOWS = (1, 7, 28)
_LONG_LOG_DAYS = 120


def of_impressions(span_days: int, *, has_user: bool) -> list[Entry]:
    """State of users, where they have ids, and daily counts of items.

    Args:
        span_days: Days from the first to the last that was seen.
        has_user: Whether users have ids.
    """
    return [*([_user_state(span_days)] if has_user else []), _item_daily(span_days)]


def _user_state(span_days: int) -> Entry:
    ttl = "30d" if span_days < _LONG_LOG_DAYS else "365d"
    return {
        "kind": "user_state",
        "history_length": Guess(_HISTORY, "of the last items of a user"),
        "ttl": Guess(ttl, f"{span_days} days were seen; a user who was away longer is unknown"),
        "delay": Guess("5m", "from an impression until its user is online: measure yours"),
    }


def _item_daily(span_days: int) -> Entry:
    windows = [days for days in _WINDOWS if days <= max(span_days, 7)]
    return {
        "kind": "item_daily",
        "windows_days": windows,
        "ttl": f"{max(windows)}d",
        "delay": Guess("2h", "from the end of a day until its tables are built"),
    }

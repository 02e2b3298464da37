"""What the names of columns suggest, and names that a schema file may have."""

import re
from collections.abc import Collection

from features.schema import CREATED, DAY, EVENT_TIMESTAMP, EXAMPLE_ID, LABEL, REQUEST_TIME, SOURCE

USER = {"user", "uid", "visitor", "customer", "member", "person", "viewer", "buyer", "client",
        "shopper", "account", "subscriber", "listener", "userid", "customerid"}  # fmt: skip
ITEM = {"item", "product", "article", "movie", "film", "sku", "asin", "book", "isbn", "song",
        "track", "video", "news", "listing", "ad", "doc", "document", "content", "post", "offer",
        "goods", "restaurant", "hotel", "game", "app", "show", "itemid", "productid",
        "movieid"}  # fmt: skip
TIME = {"time", "timestamp", "ts", "at", "date", "datetime", "when", "moment", "created", "event",
        "epoch", "occurred"}  # fmt: skip
REQUEST = {"request", "req", "query", "search", "slate", "impression", "pageview", "page"}
EXAMPLE = {"example", "row", "event", "impression", "record", "interaction"}
POSITION = {"position", "pos", "rank", "slot"}
POSITIVE = {"click": "click", "clicked": "click", "clicks": "click", "order": "order",
            "ordered": "order", "purchase": "order", "purchased": "order", "bought": "order",
            "buy": "order", "converted": "conversion", "conversion": "conversion", "cart": "cart",
            "like": "like", "liked": "like", "install": "install", "installed": "install",
            "watched": "watch", "played": "play", "label": "positive", "target": "positive",
            "positive": "positive", "engaged": "engagement", "saved": "save",
            "shared": "share"}  # fmt: skip
"""What a column of 0 and 1 says, by a word of its name."""
RATING = {"rating", "ratings", "stars", "score", "grade"}
TITLE = {"title", "name", "headline", "label"}
REQUESTED = {"device", "browser", "os", "platform", "country", "region", "city", "language",
             "locale", "lang", "surface", "channel", "referrer", "referer", "source", "section",
             "placement", "app", "client", "hour", "weekday", "tab", "campaign", "banner", "page",
             "network", *POSITION}  # fmt: skip
"""What a request usually brings along."""
_RESERVED = {DAY, EXAMPLE_ID, CREATED, EVENT_TIMESTAMP, REQUEST_TIME.name, LABEL, *SOURCE}
_ID = {"id", "uuid", "guid", "key", "no", "number", "code"}


def words(name: str) -> list[str]:
    """The words of a name, in lower case: ``userId`` and ``USER_ID`` are ``user`` and ``id``."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[^A-Za-z0-9]+", apart.lower()) if word]


def has_word(name: str, wanted: Collection[str]) -> bool:
    """Whether a word of a name is one of these, in singular or plural."""
    return any(word in wanted or word.removesuffix("s") in wanted for word in words(name))


def is_id(name: str) -> bool:
    """Whether a name says that its values are ids."""
    found = words(name)
    return bool(found) and (found[-1] in _ID or found[-1].endswith("id"))


def schema_name(landed: str, taken: Collection[str]) -> str:
    """A name that a schema file may have, near to the one in the files, and not taken."""
    name = "_".join(words(landed))[:60].strip("_") or "column"
    if not name[0].isalpha() or name in _RESERVED:
        name = f"landed_{name}"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def file_name(text: str) -> str:
    """A name that a data set may have."""
    name = "-".join(words(text))[:40].strip("-")
    return name if name[:1].isalpha() else f"log-{name}".strip("-")[:40]

"""Server-side apply: who manages which field, and what an apply changes."""

import copy
from typing import Any

Owners = dict[str, set[tuple[str, ...]]]


def conflicts(
    owners: Owners, live: dict[str, Any], body: dict[str, Any], *, manager: str, force: bool
) -> list[dict[str, str]]:
    """Fields that others manage and have otherwise; with force they are taken from them."""
    found = []
    for other, paths in owners.items():
        for path in sorted(paths & leaves(body)):
            if other == manager or at(live, path) == at(body, path):
                continue
            if force:
                paths.discard(path)
                continue
            reason, field = "FieldManagerConflict", "." + ".".join(path)
            found.append({"reason": reason, "message": f'conflict with "{other}"', "field": field})
    return found


def merged(
    live: dict[str, Any], body: dict[str, Any], *, owners: Owners, manager: str
) -> dict[str, Any]:
    """The object with what is applied, and without what this manager no longer applies."""
    new = copy.deepcopy(live)
    of_others = set().union(*(paths for other, paths in owners.items() if other != manager))
    for path in owners.get(manager, set()) - leaves(body) - of_others:
        parent = at(new, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    overlaid: dict[str, Any] = _overlaid(new, body)
    return overlaid


def own(owners: Owners, body: dict[str, Any], *, manager: str) -> None:
    """Remember what a manager has applied."""
    owners[manager] = leaves(body)


def leaves(node: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of all fields; a list is one, as in a resource without keys for its lists."""
    if not isinstance(node, dict) or not node:
        return {path}
    if path == ("metadata",):
        node = {name: value for name, value in node.items() if name == "annotations"}
    return set().union(*(leaves(value, (*path, name)) for name, value in node.items()))


def at(node: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _overlaid(live: Any, body: Any) -> Any:
    if not (isinstance(live, dict) and isinstance(body, dict)):
        return body
    return {**live, **{name: _overlaid(live.get(name), value) for name, value in body.items()}}

"""Comparing objects of Kubernetes."""


def without_empty(tree: object) -> object:
    """What an object says, whether or not its empty parts were written."""
    if isinstance(tree, list):
        return [without_empty(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    whole = {name: without_empty(branch) for name, branch in tree.items()}
    return {name: branch for name, branch in whole.items() if branch not in (None, {}, [])}

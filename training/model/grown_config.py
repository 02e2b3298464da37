"""What a Wukong can grow into: the configuration of the grown model, or the reason against it."""

import dataclasses
import enum

from training.config.model import LayerConfig, ModelConfig, WukongConfig

KEPT_NORM_EPS = 1e-8
"""Largest eps with which a LayerNorm of normalised values hands them on as they are: each is off by
at most eps over twice the variance that was divided out."""


class Operator(enum.StrEnum):
    """How a stack grows."""

    EXACT = "exact"
    """It computes what it computed before: new layers hand on their input."""
    FRESH_HEAD = "fresh-head"
    """For depth: new layers are copies of the layer below where the parent has two or more, else
    random, and the head begins anew. What the parent's layers and tables know is kept, what it
    computes is not; the stack is the target's, with all its norms."""


class GrowthError(ValueError):
    """A growth that cannot be done, or that has failed."""


def grown_model(
    source: ModelConfig,
    target: ModelConfig,
    *,
    num_tokens: int,
    operator: Operator = Operator.EXACT,
) -> ModelConfig:
    """The target's configuration with the growth groups that it needs to contain the source.

    Args:
        source: Of the trained model.
        target: Of the same tables and tokens, its stack nowhere smaller.
        num_tokens: Embeddings that enter the stack.
        operator: How it grows. What is not exact gets no groups where the source has none.

    Raises:
        GrowthError: Names what differs, or is smaller.
    """
    before, after = stack_of(source), stack_of(target)
    _check_tables(source, target)
    if len(after.layers) < len(before.layers):
        raise GrowthError(f"layers: {len(before.layers)} to {len(after.layers)}; cannot shrink")
    if before.layer_norm_eps != after.layer_norm_eps or before.zeroed != after.zeroed:
        raise GrowthError("layer_norm_eps, zeroed: must be equal")
    is_exact = operator is Operator.EXACT
    _check_residuals(before, after, is_exact=is_exact)
    if is_exact:
        _check_widths("head", before.head, after.head)
    elif len(after.layers) == len(before.layers):
        raise GrowthError(
            f"operator {operator}: layers {len(before.layers)} to {len(after.layers)}; at least "
            "one more, for a new layer is what a fresh head is for"
        )
    layers = list(after.layers)
    rows_before, rows_after = (num_tokens, 0), (num_tokens, 0)
    for number, old in enumerate(before.layers):
        new = layers[number]
        _check_layer(f"layer {number}", old, new)
        groups = old.norm_groups
        if is_exact or groups:
            groups = _groups(number, old, new, rows_before, rows_after)
        layers[number] = dataclasses.replace(
            new, norm_groups=groups, is_normalised=old.is_normalised
        )
        rows_before, rows_after = (old.num_fm, old.num_linear), (new.num_fm, new.num_linear)
    if is_exact and after.layer_norm_eps > KEPT_NORM_EPS:
        # The norm is the last layer's, however many are new.
        for number in range(len(before.layers) - 1, len(layers) - 1):
            layers[number] = dataclasses.replace(layers[number], is_normalised=False)
    stack = dataclasses.replace(after, layers=tuple(layers))
    return dataclasses.replace(target, interaction=stack)


def with_tokens(model: ModelConfig, num_tokens: int) -> ModelConfig:
    """The same model for another number of embeddings that enter its stack."""
    stack = model.interaction
    if not isinstance(stack, WukongConfig) or not stack.layers[0].norm_groups:
        return model
    # Each group had all tokens and some columns; it has the new tokens as well.
    groups = tuple((num_tokens, 0, rank) for _, _, rank in stack.layers[0].norm_groups)
    first = dataclasses.replace(stack.layers[0], norm_groups=groups)
    stack = dataclasses.replace(stack, layers=(first, *stack.layers[1:]))
    return dataclasses.replace(model, interaction=stack)


def changes(source: ModelConfig, target: ModelConfig) -> list[str]:
    """The axes that grow from one configuration to the other, such as ``layer 0: k 8 to 16``."""
    before, after = stack_of(source), stack_of(target)
    found = []
    if len(before.layers) != len(after.layers):
        found.append(f"stack: l {len(before.layers)} to {len(after.layers)}")
    names = {"num_fm": "n_F", "num_linear": "n_L", "rank": "k", "mlp": "MLP"}
    for number, (old, new) in enumerate(zip(before.layers, after.layers, strict=False)):
        for field, axis in names.items():
            a, b = getattr(old, field), getattr(new, field)
            if a != b:
                found.append(f"layer {number}: {axis} {a} to {b}")
    if before.head != after.head:
        found.append(f"head: MLP {before.head} to {after.head}")
    return found


def stack_of(config: ModelConfig) -> WukongConfig:
    """The Wukong stack of a model; GrowthError where it has none."""
    if not isinstance(config.interaction, WukongConfig):
        raise GrowthError(f"interaction: {config.interaction.kind}; only wukong grows")
    return config.interaction


def _check_tables(source: ModelConfig, target: ModelConfig) -> None:
    for field in dataclasses.fields(ModelConfig):
        if field.name in {"interaction", "dropout", "embedding_std"}:
            continue
        old, new = getattr(source, field.name), getattr(target, field.name)
        if old != new:
            raise GrowthError(f"{field.name}: {old} to {new}; the tables and tokens must be equal")


def _check_residuals(before: WukongConfig, after: WukongConfig, *, is_exact: bool) -> None:
    """What the parent's layers add, the grown ones must add as well, and a new exact one nothing.

    Linked layers have equal n_F and n_L, before and after, so that what is added to an old
    embedding is the old one.
    """
    kept = tuple(number for number in after.residual_layers if number < len(before.layers))
    intervals = f"residual_interval: {before.residual_interval} to {after.residual_interval}"
    if kept != before.residual_layers:
        raise GrowthError(
            f"{intervals}; the parent's layers {list(before.residual_layers)} add an earlier "
            f"output, the same ones of the target {list(kept)}; must be equal"
        )
    if is_exact and after.residual_layers != kept:
        raise GrowthError(
            f"{intervals}; layer {after.residual_layers[len(kept)]} is new and would add an "
            f"earlier output, where operator {Operator.EXACT} has it hand on its input alone; "
            f"{Operator.FRESH_HEAD} may do"
        )


def _check_layer(where: str, old: LayerConfig, new: LayerConfig) -> None:
    for field in ("num_fm", "num_linear", "rank"):
        a, b = getattr(old, field), getattr(new, field)
        if b < a:
            raise GrowthError(f"{where}: {field} {a} to {b}; cannot shrink")
    if (old.rank == 0) != (new.rank == 0):
        raise GrowthError(f"{where}: rank {old.rank} to {new.rank}; 0 is another product")
    if old.attention != new.attention:
        raise GrowthError(f"{where}: attention {old.attention} to {new.attention}; must be equal")
    _check_widths(f"{where}: mlp", old.mlp, new.mlp)


def _check_widths(where: str, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    if len(new) < len(old) or any(b < a for a, b in zip(old, new, strict=False)):
        raise GrowthError(f"{where} {old} to {new}; cannot shrink")
    if len(new) == len(old):
        return
    if not old:
        raise GrowthError(f"{where} {old} to {new}; a first hidden layer cannot be the identity")
    if min(new[len(old) :]) < old[-1]:
        raise GrowthError(
            f"{where} {old} to {new}; a new hidden layer hands on {old[-1]}, so at least that wide"
        )


def _groups(
    number: int,
    old: LayerConfig,
    new: LayerConfig,
    rows_before: tuple[int, int],
    rows_after: tuple[int, int],
) -> tuple[tuple[int, int, int], ...]:
    """The parent's growth groups, and one more where X(XᵀY) has new entries."""
    before = (*rows_before, old.rank or sum(rows_before))
    after = (*rows_after, new.rank or sum(rows_after))
    if before == after:
        return old.norm_groups
    if not old.rank:
        raise GrowthError(f"layer {number}: the plain XXᵀ (rank 0) of more embeddings; set a rank")
    return (*(old.norm_groups or (before,)), after)

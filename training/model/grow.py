"""Grow a trained Wukong without changing what it computes: dense upscaling, as state dicts.

Every axis of the paper grows, alone or with others: layers (l), embeddings (n_F, n_L), rank (k),
width and depth of the MLPs. What the parent had keeps its weights and its place; what is new starts
at random, and whatever would hand new values to old ones starts at zero (Net2Net, arXiv
1511.05641). Weights at zero still receive a gradient, so that every new one learns after a few
steps.

Three places need more than zeros. The block's LayerNorm runs over all of X(XᵀY), so the new entries
are normalised apart from the old ones (``LayerConfig.norm_groups``). A new layer would normalise
once more, so it takes over the norm of the layer before it, which has none from then on
(``LayerConfig.is_normalised``): the sum that it normalised is handed through. A new hidden layer of
an MLP is the identity on the activations before it, which ReLU leaves as they are.

Positions are indices, in a tensor of the grown model, of the parent's entries in their order.
"""

import dataclasses
import enum
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.config.model import LayerConfig, ModelConfig, WukongConfig

State = Mapping[str, Tensor]


class Kind(enum.Enum):
    """What a state dict of the stack holds."""

    WEIGHTS = "weights"
    FIRST_MOMENTS = "exp_avg"
    SECOND_MOMENTS = "exp_avg_sq"


class GrowthError(ValueError):
    """A growth that cannot keep the function."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One axis that grew."""

    where: str
    axis: str
    before: str
    after: str

    def __str__(self) -> str:
        """Such as ``layer 0: k 8 to 16``."""
        return f"{self.where}: {self.axis} {self.before} to {self.after}"


def grown_model(source: ModelConfig, target: ModelConfig, *, num_tokens: int) -> ModelConfig:
    """The target's configuration with the growth groups that it needs to contain the source.

    Args:
        source: Of the trained model.
        target: Of the same tables and tokens, its stack nowhere smaller.
        num_tokens: Embeddings that enter the stack.

    Raises:
        GrowthError: Names what differs, or is smaller.
    """
    before, after = _stack(source), _stack(target)
    for field in dataclasses.fields(ModelConfig):
        if field.name in {"interaction", "dropout", "embedding_std"}:
            continue
        old, new = getattr(source, field.name), getattr(target, field.name)
        if old != new:
            raise GrowthError(f"{field.name}: {old} to {new}; the tables and tokens must be equal")
    if len(after.layers) < len(before.layers):
        raise GrowthError(f"layers: {len(before.layers)} to {len(after.layers)}; cannot shrink")
    if before.layer_norm_eps != after.layer_norm_eps or before.zeroed != after.zeroed:
        raise GrowthError("layer_norm_eps, zeroed: must be equal")
    _check_widths("head", before.head, after.head)
    layers = list(after.layers)
    rows_before, rows_after = (num_tokens, 0), (num_tokens, 0)
    for place, old in enumerate(before.layers):
        new = layers[place]
        _check_layer(f"layer {place}", old, new)
        layers[place] = dataclasses.replace(
            new,
            norm_groups=_groups(place, old, new, rows_before, rows_after),
            is_normalised=old.is_normalised,
        )
        rows_before, rows_after = (old.num_fm, old.num_linear), (new.num_fm, new.num_linear)
    # The norm is the last layer's, however many are new.
    for place in range(len(before.layers) - 1, len(layers) - 1):
        layers[place] = dataclasses.replace(layers[place], is_normalised=False)
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


def changes(source: ModelConfig, target: ModelConfig) -> list[Change]:
    """The axes that grow from one configuration to the other, for people and manifests."""
    before, after = _stack(source), _stack(target)
    found = []
    if len(before.layers) != len(after.layers):
        found.append(Change("stack", "l", str(len(before.layers)), str(len(after.layers))))
    names = {"num_fm": "n_F", "num_linear": "n_L", "rank": "k", "mlp": "MLP"}
    for place, (old, new) in enumerate(zip(before.layers, after.layers, strict=False)):
        for field, axis in names.items():
            a, b = getattr(old, field), getattr(new, field)
            if a != b:
                found.append(Change(f"layer {place}", axis, str(a), str(b)))
    if before.head != after.head:
        found.append(Change("head", "MLP", str(before.head), str(after.head)))
    return found


def grow(
    parent: State,
    fresh: State,
    source: ModelConfig,
    target: ModelConfig,
    *,
    num_tokens: int,
    places: Tensor | None = None,
    kind: Kind = Kind.WEIGHTS,
) -> dict[str, Tensor]:
    """The grown stack's tensors, by the names of ``Wukong``'s state dict.

    Args:
        parent: The trained stack's weights, or one of Adam's moments by the same names.
        fresh: Of the grown stack: its initialisation; of moments the shapes count alone.
        source: The parent's configuration.
        target: What ``grown_model`` returned.
        num_tokens: Embeddings that enter the grown stack.
        places: Positions among them of those that entered the parent's; None: they are the same.
        kind: What ``parent`` is. New moments are zero; ``rewind_adam_step`` makes Adam take them
        for what
            they are, the moments of a first step.
    """
    growing = _Growing(parent, fresh, kind, dim=target.embedding_dim)
    before, after = _stack(source), _stack(target)
    old_inputs = torch.arange(num_tokens) if places is None else places
    num_inputs = num_tokens
    for place, new in enumerate(after.layers):
        if place < len(before.layers):
            old_inputs = growing.layer(place, before.layers[place], new, old_inputs, num_inputs)
        else:
            top = len(before.layers) - 1
            old_inputs = growing.new_layer(place, new, old_inputs, num_inputs, top=top)
        num_inputs = new.num_fm + new.num_linear
    growing.mlp("head", _blocks(old_inputs, target.embedding_dim), torch.arange(1))
    return growing.grown


def rewind_adam_step(
    first: Tensor, second: Tensor, step: Tensor, betas: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's state of a tensor that grew, with its clock at the first step.

    Adam divides its moments by what they lack of a long history, by one count of steps for a whole
    tensor. Late in a run that is nothing, and new entries that begin at zero would take steps
    several times too long; with a second moment borrowed from old entries they were seen to learn
    too slowly (decision 23). At the first step the correction fits new entries, and old ones are
    scaled so that their corrected moments are what they were.

    Args:
        first: First moments.
        second: Second moments.
        step: How many steps made them.
        betas: Adam's.
    """
    if step <= 1:
        return first, second, step
    shares = [(1 - beta) / (1 - beta ** float(step)) for beta in betas]
    return first * shares[0], second * shares[1], torch.ones_like(step)


class _Growing:
    """The grown tensors, first the fresh ones, then with the parent's in their places."""

    def __init__(self, parent: State, fresh: State, kind: Kind, *, dim: int) -> None:
        self.parent = parent
        self.kind = kind
        self.dim = dim
        is_weights = kind is Kind.WEIGHTS
        self.grown = {
            name: value.clone() if is_weights else torch.zeros_like(value)
            for name, value in fresh.items()
        }
        self.one = 1.0 if is_weights else 0.0

    def layer(
        self, place: int, old: LayerConfig, new: LayerConfig, inputs: Tensor, num_inputs: int
    ) -> Tensor:
        """Grow a layer that the parent has; returns the positions of its outputs."""
        name = f"layers.{place}"
        outputs = torch.cat([torch.arange(old.num_fm), new.num_fm + torch.arange(old.num_linear)])
        columns = torch.arange(old.rank) if old.rank else inputs
        width = new.rank or num_inputs
        entries = (inputs[:, None] * width + columns).flatten()
        fm = f"{name}.fmb.interaction"
        if f"{fm}.projection" in self.grown:
            self._mixer(f"{fm}.projection", inputs, columns)
        elif f"{fm}.compression" in self.grown:
            self._mixer(f"{fm}.compression", inputs, torch.arange(new.attention[0]))
            self._attention(f"{fm}.attention", entries, columns, width)
        for vector in ("weight", "bias"):
            self._vector(f"{name}.fmb.norm.{vector}", entries)
            if new.is_normalised:
                self._vector(f"{name}.norm.{vector}", torch.arange(self.dim))
        self.mlp(f"{name}.fmb.mlp", entries, torch.arange(old.num_fm * self.dim))
        self._mixer(f"{name}.linear_compression", inputs, torch.arange(old.num_linear))
        self._residual(name, inputs, outputs)
        return outputs

    def new_layer(
        self, place: int, new: LayerConfig, inputs: Tensor, num_inputs: int, *, top: int
    ) -> Tensor:
        """Make a layer that hands its input on; returns the positions of the parent's outputs.

        Args:
            place: Of the layer.
            new: Its configuration.
            inputs: Positions of the parent's embeddings.
            num_inputs: How many there are with the new ones.
            top: Place of the parent's last layer, whose norm it takes over.
        """
        name = f"layers.{place}"
        num_outputs = new.num_fm + new.num_linear
        if int(inputs.max()) >= num_outputs:
            raise GrowthError(
                f"layer {place}: n_F + n_L = {num_outputs}; a new layer hands on its "
                f"{num_inputs} inputs, so at least {int(inputs.max()) + 1}"
            )
        last = _linears(self.grown, f"{name}.fmb.mlp")[-1]
        for zeroed in (f"{last}.weight", f"{last}.bias", f"{name}.linear_compression"):
            self.grown[zeroed].zero_()
        self._identity(name, inputs, inputs)
        if new.is_normalised:
            for vector in ("weight", "bias"):
                norm = self.parent[f"layers.{top}.norm.{vector}"]
                self.grown[f"{name}.norm.{vector}"] = norm.clone()
        return inputs

    def mlp(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """Grow an MLP in width, and in depth before its last layer.

        Args:
            name: Of the MLP.
            inputs: Positions of what it read.
            outputs: Positions of what it returned.
        """
        old, new = _linears(self.parent, name), _linears(self.grown, name)
        for before, after in zip(old[:-1], new, strict=False):
            kept = torch.arange(len(self.parent[f"{before}.bias"]))
            self._linear(before, after, inputs, kept)
            inputs = kept
        for after in new[len(old) - 1 : -1]:
            weight, bias = self.grown[f"{after}.weight"], self.grown[f"{after}.bias"]
            weight[inputs] = 0
            weight[inputs, inputs] = self.one
            bias[inputs] = 0
        self._linear(old[-1], new[-1], inputs, outputs)

    def _linear(self, before: str, after: str, inputs: Tensor, outputs: Tensor) -> None:
        weight = self.grown[f"{after}.weight"]
        weight[outputs] = 0
        weight[outputs[:, None], inputs] = self.parent[f"{before}.weight"]
        self.grown[f"{after}.bias"][outputs] = self.parent[f"{before}.bias"]

    def _mixer(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        weight = self.grown[name]
        weight[:, outputs] = 0
        weight[inputs[:, None], outputs] = self.parent[name]

    def _vector(self, name: str, positions: Tensor) -> None:
        self.grown[name][positions] = self.parent[name]

    def _attention(self, name: str, entries: Tensor, columns: Tensor, width: int) -> None:
        """The MLP that makes Y: no new row of Y may reach an old column of X(XᵀY)."""
        *hidden, last = _linears(self.grown, name)
        for linear in hidden:
            for part in ("weight", "bias"):
                self.grown[f"{linear}.{part}"] = self.parent[f"{linear}.{part}"].clone()
        before = _linears(self.parent, name)[-1]
        for part in ("weight", "bias"):
            made = self.grown[f"{last}.{part}"]
            is_old_column = torch.isin(torch.arange(len(made)) % width, columns)
            made[is_old_column] = 0
            made[entries] = self.parent[f"{before}.{part}"]

    def _residual(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        if f"{name}.residual" not in self.parent:
            self._identity(name, inputs, outputs)
        elif f"{name}.residual" in self.grown:
            self._mixer(f"{name}.residual", inputs, outputs)
        else:
            raise GrowthError(
                f"{name}: as many outputs as inputs, so that its residual has no projection any "
                "more, and the parent's has been trained; choose another n_F or n_L"
            )

    def _identity(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """A residual that hands each old input on to its old output."""
        projection = self.grown.get(f"{name}.residual")
        if projection is not None:
            projection[:, outputs] = 0
            projection[inputs, outputs] = self.one
        elif not torch.equal(inputs, outputs):
            raise GrowthError(
                f"{name}: its residual hands on embeddings by their place, and those of the layer "
                "before move to other places; let n_F grow equally in both"
            )


def _stack(config: ModelConfig) -> WukongConfig:
    if not isinstance(config.interaction, WukongConfig):
        raise GrowthError(f"interaction: {config.interaction.kind}; only wukong grows")
    return config.interaction


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
    place: int,
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
        raise GrowthError(f"layer {place}: the plain XXᵀ (rank 0) of more embeddings; set a rank")
    return (*(old.norm_groups or (before,)), after)


def _linears(state: State, name: str) -> list[str]:
    """Names of an MLP's linear layers in their order; dropout moves their numbers."""
    pattern = re.compile(re.escape(name) + r"\.(\d+)\.weight")
    numbers = sorted(int(found[1]) for key in state if (found := pattern.fullmatch(key)))
    return [f"{name}.{number}" for number in numbers]


def _blocks(positions: Tensor, size: int) -> Tensor:
    """Positions of embeddings to positions of their numbers in the flattened tensor."""
    return (positions[:, None] * size + torch.arange(size)).flatten()

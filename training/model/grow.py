"""Grow a trained Wukong, exactly or with a fresh head: dense upscaling, as state dicts.

Every axis of the paper grows, alone or with others: layers (l), embeddings (n_F, n_L), rank (k),
width and depth of the MLPs. Grown exactly, a stack computes what it computed before. What the
parent had keeps its weights and its position; what is new starts at random, and what new values
hand to old ones starts as a sum of zero (Net2Net, arXiv 1511.05641). New hidden units of an MLP
come in pairs: both read the same, and hand on to what is old the same with opposite signs. The sum
is zero, yet every weight has a gradient of its own from the first step. Zeros alone would not have:
the first step moves them all in one sign pattern, which was seen to shut most new units for good.
Where nothing makes pairs (new embeddings, new columns of X(XᵀY), the odd unit) the weights are
zero, and what stands behind them learns a step later.

Three parts need more than zeros. The block's LayerNorm runs over all of X(XᵀY), so the new entries
are normalised apart from the old ones (``LayerConfig.norm_groups``). A new layer normalises once
more, so the last one takes over weight and bias of the parent's last norm. Where eps is small (at
most ``KEPT_NORM_EPS``) the others divide by what has been divided out already; where it is not,
they have no norm from then on (``LayerConfig.is_normalised``): the sum is handed through. A new
hidden layer of an MLP is the identity on the activations before it, which ReLU leaves as they are.

With ``Operator.FRESH_HEAD`` none of this holds for depth: a head that was trained without the new
layers has no use for what they write, and training turns them down. The old layers and tables go on
from where they are, what is above them begins anew.

Positions are indices, in a tensor of the grown model, of the parent's entries in their order.
"""

import enum
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.config.model import LayerConfig, ModelConfig
from training.model.grown_config import GrowthError, Operator, stack_of

State = Mapping[str, Tensor]
_Pairs = tuple[Tensor, Tensor]
"""Positions of hidden units, and of those that make pairs with them."""
_NONE = torch.arange(0)
_NO_PAIRS: _Pairs = (_NONE, _NONE)


class Kind(enum.Enum):
    """What a state dict of the stack holds."""

    WEIGHTS = "weights"
    FIRST_MOMENTS = "exp_avg"
    SECOND_MOMENTS = "exp_avg_sq"


def grow(
    parent: State,
    fresh: State,
    source: ModelConfig,
    target: ModelConfig,
    *,
    num_tokens: int,
    positions: Tensor | None = None,
    kind: Kind = Kind.WEIGHTS,
    operator: Operator = Operator.EXACT,
) -> dict[str, Tensor]:
    """The grown stack's tensors, by the names of ``Wukong``'s state dict.

    Args:
        parent: The trained stack's weights, or one of Adam's moments by the same names.
        fresh: Of the grown stack: its initialisation; of moments the shapes count alone.
        source: The parent's configuration.
        target: What ``grown_model`` returned.
        num_tokens: Embeddings that enter the grown stack.
        positions: Positions among them of those that entered the parent's; None: they are the same.
        kind: What ``parent`` is. New moments are zero; ``training.model.adam_clock`` makes Adam
            take them for what they are, the moments of a first step.
        operator: How it grows; ``target`` is of the same.
    """
    growing = _Growing(parent, fresh, kind, dim=target.embedding_dim)
    before, after = stack_of(source), stack_of(target)
    old_inputs = torch.arange(num_tokens) if positions is None else positions
    num_inputs = num_tokens
    for number, new in enumerate(after.layers):
        top = len(before.layers) - 1
        if number <= top:
            old_inputs = growing.layer(number, before.layers[number], new, old_inputs, num_inputs)
        elif operator is Operator.FRESH_HEAD:
            if top > 0 and new == after.layers[top]:
                growing.copy_layer(top, number)
        else:
            old_inputs = growing.new_layer(number, new, old_inputs, num_inputs)
            if number == len(after.layers) - 1:
                growing.move_norm(top, number)
        num_inputs = new.num_fm + new.num_linear
        has_auxiliary = number == before.auxiliary_layer == after.auxiliary_layer
        if has_auxiliary and operator is Operator.EXACT:
            growing.mlp("auxiliary", _blocks(old_inputs, target.embedding_dim), torch.arange(1))
    if operator is Operator.EXACT:
        growing.mlp("head", _blocks(old_inputs, target.embedding_dim), torch.arange(1))
    return growing.grown


class _Growing:
    """The grown tensors, first the fresh ones, then with the parent's in their positions."""

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
        self, number: int, old: LayerConfig, new: LayerConfig, inputs: Tensor, num_inputs: int
    ) -> Tensor:
        """Grow a layer that the parent has; returns the positions of its outputs."""
        name = f"layers.{number}"
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

    def new_layer(self, number: int, new: LayerConfig, inputs: Tensor, num_inputs: int) -> Tensor:
        """Make a layer that hands its input on; returns the positions of the parent's outputs.

        Args:
            number: Of the layer, from the input up.
            new: Its configuration.
            inputs: Positions of the parent's embeddings.
            num_inputs: How many there are with the new ones.
        """
        name = f"layers.{number}"
        num_outputs = new.num_fm + new.num_linear
        if int(inputs.max()) >= num_outputs:
            raise GrowthError(
                f"layer {number}: n_F + n_L = {num_outputs}; a new layer hands on its "
                f"{num_inputs} inputs, so at least {int(inputs.max()) + 1}"
            )
        *hidden, last = _linears(self.grown, f"{name}.fmb.mlp")
        pairs = self._pairs(hidden[-1], _NONE) if hidden else _NO_PAIRS
        _cancel(self.grown[f"{last}.weight"], torch.arange(num_out := new.num_fm * self.dim), pairs)
        self.grown[f"{last}.bias"][:num_out] = 0
        self.grown[f"{name}.linear_compression"].zero_()
        self._identity(name, inputs, inputs)
        return inputs

    def copy_layer(self, below: int, number: int) -> None:
        """Start a layer as a copy of one below of equal shapes; its moments stay zero."""
        shapes = [_shapes(self.grown, f"layers.{one}.") for one in (below, number)]
        if self.one and shapes[0] == shapes[1]:
            for name in shapes[0]:
                copied = self.grown[f"layers.{below}.{name}"].clone()
                self.grown[f"layers.{number}.{name}"] = copied

    def move_norm(self, top: int, number: int) -> None:
        """Give the norm of the parent's last layer to the grown stack's; it keeps the division."""
        for vector, start in (("weight", self.one), ("bias", 0.0)):
            self.grown[f"layers.{number}.norm.{vector}"] = self.parent[
                f"layers.{top}.norm.{vector}"
            ].clone()
            if f"layers.{top}.norm.{vector}" in self.grown:
                self.grown[f"layers.{top}.norm.{vector}"].fill_(start)

    def mlp(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """Grow an MLP in width, and in depth before its last layer.

        Args:
            name: Of the MLP.
            inputs: Positions of what it read.
            outputs: Positions of what it returned.
        """
        old, new = _linears(self.parent, name), _linears(self.grown, name)
        pairs = _NO_PAIRS
        for before, after in zip(old[:-1], new, strict=False):
            kept = torch.arange(len(self.parent[f"{before}.bias"]))
            self._linear(before, after, inputs, kept, pairs)
            inputs, pairs = kept, self._pairs(after, kept)
        for after in new[len(old) - 1 : -1]:
            weight, bias = self.grown[f"{after}.weight"], self.grown[f"{after}.bias"]
            _cancel(weight, inputs, pairs)
            weight[inputs, inputs] = self.one
            bias[inputs] = 0
            pairs = self._pairs(after, inputs)
        self._linear(old[-1], new[-1], inputs, outputs, pairs)

    def _linear(
        self, before: str, after: str, inputs: Tensor, outputs: Tensor, pairs: _Pairs
    ) -> None:
        weight = self.grown[f"{after}.weight"]
        _cancel(weight, outputs, pairs)
        weight[outputs[:, None], inputs] = self.parent[f"{before}.weight"]
        self.grown[f"{after}.bias"][outputs] = self.parent[f"{before}.bias"]

    def _pairs(self, linear: str, kept: Tensor) -> _Pairs:
        """Make the units that are not ``kept`` pairs that read the same; an odd one has none."""
        weight, bias = self.grown[f"{linear}.weight"], self.grown[f"{linear}.bias"]
        units = torch.arange(len(bias))
        units = units[~torch.isin(units, kept)]
        first, second = units[: len(units) // 2], units[len(units) // 2 : len(units) // 2 * 2]
        weight[second], bias[second] = weight[first], bias[first]
        return first, second

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
                f"{name}: its residual hands on embeddings by position, and those of the layer "
                "before move to other positions; let n_F grow equally in both"
            )


def _cancel(weight: Tensor, outputs: Tensor, pairs: _Pairs) -> None:
    """Let the outputs read nothing but pairs, of which each adds up to zero."""
    first, second = pairs
    random = weight[outputs[:, None], first]
    weight[outputs] = 0
    weight[outputs[:, None], first] = random
    weight[outputs[:, None], second] = -random


def _shapes(state: State, prefix: str) -> dict[str, torch.Size]:
    found = state.items()
    return {k.removeprefix(prefix): value.shape for k, value in found if k.startswith(prefix)}


def _linears(state: State, name: str) -> list[str]:
    """Names of an MLP's linear layers in their order; dropout moves their numbers."""
    pattern = re.compile(re.escape(name) + r"\.(\d+)\.weight")
    numbers = sorted(int(found[1]) for key in state if (found := pattern.fullmatch(key)))
    return [f"{name}.{number}" for number in numbers]


def _blocks(positions: Tensor, size: int) -> Tensor:
    """Positions of embeddings to positions of their numbers in the flattened tensor."""
    return (positions[:, None] * size + torch.arange(size)).flatten()

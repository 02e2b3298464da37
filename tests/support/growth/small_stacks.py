"""Small Wukongs that grow, in float64."""

import torch

from training.config.model import LayerConfig, ModelConfig, WukongConfig
from training.model.grow import grow
from training.model.grown_config import Operator, grown_model
from training.model.wukong import Wukong

TOKENS, DIM = 5, 4


def model(*layers: LayerConfig, head=(6,), dim=DIM) -> ModelConfig:
    stack = WukongConfig(layers=layers, head=head)
    return ModelConfig(embedding_dim=dim, interaction=stack, bottom_mlp=())


def layer(*, num_fm=3, num_linear=2, rank=2, mlp=(5,), attention=()) -> LayerConfig:
    return LayerConfig(
        num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=mlp, attention=attention
    )


def trained(config: ModelConfig, dropout=0.0) -> Wukong:
    """A stack all of whose weights have moved away from their initialisation."""
    torch.manual_seed(1)
    net = Wukong(TOKENS, DIM, config.interaction, dropout=dropout).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net


def grown(
    parent: Wukong, source: ModelConfig, target: ModelConfig, operator=Operator.EXACT
) -> tuple[Wukong, ModelConfig]:
    config = grown_model(source, target, num_tokens=TOKENS, operator=operator)
    torch.manual_seed(2)
    net = Wukong(TOKENS, DIM, config.interaction).double()
    state = grow(
        *(parent.state_dict(), net.state_dict(), source, config),
        num_tokens=TOKENS,
        operator=operator,
    )
    net.load_state_dict(state)
    return net, config


def difference(parent: Wukong, net: Wukong) -> float:
    x = torch.randn(7, TOKENS, DIM, dtype=torch.float64)
    return float((parent(x) - net(x)).abs().max().detach())


BASE = (layer(), layer())
GROWN = {
    "n_F": (layer(num_fm=4), layer(num_fm=4)),
    "n_F of the last layer": (layer(), layer(num_fm=4)),
    "n_L": (layer(num_linear=4), layer(num_linear=4)),
    "k": (layer(rank=4), layer(rank=3)),
    "MLP width": (layer(mlp=(9,)), layer(mlp=(7,))),
    "MLP depth": (layer(mlp=(5, 6)), layer(mlp=(5, 5, 8))),
    "l": (*BASE, layer()),
    "l twice, of other sizes": (*BASE, layer(mlp=(4, 4)), layer(num_fm=4, num_linear=3)),
    "all": (
        layer(num_fm=5, num_linear=4, rank=4, mlp=(8, 9)),
        layer(num_fm=5, num_linear=4, rank=3, mlp=(7, 7)),
        layer(num_fm=5, num_linear=4, rank=4),
    ),
}

"""AdamW with its schedules, and its state as named tensors."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ih_lens.errors import DamagedFileError
from ih_lens.training.config import TrainConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW whose weight decay acts on matrices only."""
    matrices = [parameter for name, parameter in model.named_parameters() if is_decayed(name)]
    others = [parameter for name, parameter in model.named_parameters() if not is_decayed(name)]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def is_decayed(name: str) -> bool:
    """Whether a parameter is a matrix that products use: `W_Q` and its like, but not the positions.

    What makes a matrix counts as the matrix.

    Examples:
        >>> is_decayed("blocks.0.attn.W_Q"), is_decayed("blocks.0.attn.b_Q"), is_decayed("pos_embed.W_pos")
        (True, False, False)
    """
    last = name.removesuffix(".original").rsplit(".", 1)[-1].removeprefix("_")
    return last.startswith("W_") and last != "W_pos"


def set_schedules(optimizer: torch.optim.AdamW, config: TrainConfig, step: int) -> float:
    """Give the optimiser the learning rate and weight decay of a step; returns the learning rate."""
    lr = config.learning_rate(step)
    matrices, others = optimizer.param_groups
    matrices["weight_decay"] = config.weight_decay_at(step)
    matrices["lr"] = others["lr"] = lr
    return lr


def optimizer_tensors(optimizer: torch.optim.AdamW, model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """Both moments of every parameter, by the parameter's name; none before the first step."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in _MOMENTS
        if parameter in optimizer.state
    }


def restore_optimizer(optimizer: torch.optim.AdamW, model: nn.Module, tensors: dict[str, Tensor], step: int) -> None:
    """Put back what `optimizer_tensors` gave after `step` steps.

    Raises:
        DamagedFileError: if a parameter's moments are missing or have another shape.
    """
    if step == 0:
        return
    for name, parameter in model.named_parameters():
        moments = {moment: tensors.get(f"{moment}.{name}") for moment in _MOMENTS}
        found = {moment: value for moment, value in moments.items() if value is not None}
        if not found:
            continue  # a parameter that the model does not use has none
        if len(found) != len(_MOMENTS) or any(value.shape != parameter.shape for value in found.values()):
            raise DamagedFileError(f"the saved optimiser does not know {name}; delete the run folder and train again")
        counter = torch.tensor(float(step), device=parameter.device)
        placed = {moment: value.to(parameter.device, parameter.dtype).clone() for moment, value in found.items()}
        optimizer.state[parameter] = {"step": counter, **placed}

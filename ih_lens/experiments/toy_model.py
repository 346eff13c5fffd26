"""Three factors learned together: why parts that need each other make a phase change (Singh et al. 2024)."""

from collections.abc import Sequence

import pandas as pd
import torch

from ih_lens.errors import InputError
from ih_lens.validate import at_least

FACTORS = ("a", "b", "c")


def three_factor_losses(
    clamped: Sequence[str] = (), *, width: int = 20, lr: float = 1.0, n_steps: int = 1000, seed: int = 1
) -> pd.Series:
    """Gradient descent on half the mean square of a* x b* x c* - a x b x c, the tensor product of three vectors.

    Each factor stands for a subcircuit; a clamped one has its true value from the beginning.

    Args:
        clamped: factors that are given: "a", "b", "c".
        width: entries of each vector.
        lr: learning rate.
        n_steps: steps.
        seed: of the true and of the first values, all standard normal.

    Returns:
        The loss by step, as a share of the first one.

    Raises:
        InputError: for another factor.

    Examples:
        >>> losses = three_factor_losses(["c"])
        >>> int((losses < 0.1).idxmax()) < int((three_factor_losses() < 0.1).idxmax())
        True
    """
    at_least("width", width, 1)
    at_least("n_steps", n_steps, 1)
    if not set(clamped) <= set(FACTORS):
        raise InputError(f"clamped: expected some of {', '.join(FACTORS)}, got {list(clamped)}")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(2, len(FACTORS), width, generator=generator, dtype=torch.float64, device="cpu")
    true = dict(zip(FACTORS, draws[0], strict=True))
    values = {
        name: true[name].clone() if name in clamped else draws[1, place].clone().requires_grad_()
        for place, name in enumerate(FACTORS)
    }
    learned = [value for value in values.values() if value.requires_grad]
    target = torch.einsum("i,j,k->ijk", *true.values())
    losses: list[float] = []
    with torch.enable_grad():
        for _ in range(n_steps):
            loss = 0.5 * (target - torch.einsum("i,j,k->ijk", *values.values())).square().mean()
            losses.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, learned) if learned else ()
            with torch.no_grad():
                for value, gradient in zip(learned, gradients, strict=True):
                    value -= lr * gradient
    series = pd.Series(losses, name="loss").rename_axis("step")
    return series / losses[0] if losses[0] else series

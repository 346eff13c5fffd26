"""How one head acts on a later one: ablated with that one's pattern or values kept, or through one input alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.measure.forward import check_measurable, measuring, start_rows
from ih_lens.measure.head_evaluators._places import prefix_targets
from ih_lens.measure.head_reading import HeadReading, Side
from ih_lens.measure.match_terms import matching_tokens, prefix_matching_of
from ih_lens.measure.numerics import widen
from ih_lens.measure.read_head import head_batches, read_head, require_linear_reading
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import to_numpy
from ih_lens.statistics import standard_error
from ih_lens.types import HeadIndex, HeadSpelling, Hook, ModelLike
from ih_lens.validate import head_index

INTACT = "nothing"
PATHS = (
    INTACT,
    "everything",
    "all but its pattern",
    "all but its values",
    "its keys alone",
    "its queries alone",
    "its values alone",
    "its keys, queries and values",
)
"""What the removal reaches: everything (with the later head's pattern or values as they were), or its inputs."""
_INPUTS: dict[str, tuple[Side, ...]] = {
    "its keys alone": ("k",),
    "its queries alone": ("q",),
    "its values alone": ("v",),
    "its keys, queries and values": ("q", "k", "v"),
}


@dataclass(frozen=True)
class _Removed:
    """Whether the earlier head is removed everywhere, and what replaces the later head's pattern and values."""

    zeroed: bool
    pattern: Float[Tensor, "batch query_pos key_pos"] | None = None
    values: Float[Tensor, "batch pos d_head"] | None = None


def head_wiring(
    model: ModelLike,
    earlier: HeadSpelling,
    later: HeadSpelling,
    evals: EvalSet | None = None,
    *,
    tokens: Tensor | None = None,
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """What a later head's prefix matching and the model's loss lose without an earlier head, path by path.

    The earlier head's output is removed (zero) everywhere, with the later head's pattern, or its values, kept as they
    are in the intact model (Singh et al. 2024, for single pairs); or from inputs of the later head alone, all else
    being intact. What is removed from an input is normalised anew. `wiring` does the first for groups on
    all later layers.

    Args:
        model: a HookedTransformer.
        earlier: head that is removed, like "L0H3".
        later: head of a later layer that it acts on.
        evals: examples that the loss is measured on, a mean over all context indices; the tokens of prefix matching
            by default.
        tokens: ids [example, pos] with repeats, for prefix matching; by default repeated random tokens.
        n_examples: of the random tokens.
        seed: of the random tokens.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        One row per path (`removed_from`, of `PATHS`): `prefix_matching` of the later head, `lost`, the share of the
        intact one that is gone; `loss` in nats per token and `cost`, the loss beyond the intact one, each with its
        standard error over examples (`lost_stderr`, `cost_stderr`), paired with the intact model.

    Raises:
        CapabilityError: if the model's attention scores are no sums of terms.
        InputError: if the heads are not in order, or weights or tokens cannot be used.

    Examples:
        >>> costs = head_wiring(model, "L0H3", "L1H4", evals).set_index("removed_from")["cost"]
        >>> float(costs["its keys alone"])
        0.21
    """
    linear = require_linear_reading(model, "following a head's output into another head")
    source, reader = (head_index(head, model.cfg.n_layers, model.cfg.n_heads) for head in (earlier, later))
    if source.layer >= reader.layer:
        raise InputError(f"expected an earlier head and one of a later layer, got {source} and {reader}")
    repeated = matching_tokens(model, tokens, n_examples, seed)
    if evals is not None:
        check_measurable(model, evals)
    texts = repeated if evals is None else evals.tokens
    matched = _measured(linear, source, reader, repeated, _prefix_matching, batch_size)
    losses = _measured(linear, source, reader, texts, _losses, batch_size)
    matched = matched[:, np.isfinite(matched[0])]
    whole = matched[0].mean()
    lost = 1 - matched.mean(axis=1) / whole
    differences = (matched[0] - matched - lost[:, None] * matched[0]) / whole
    return pd.DataFrame(
        {
            "removed_from": PATHS,
            "prefix_matching": matched.mean(axis=1),
            "lost": lost,
            "lost_stderr": standard_error(differences.T),
            "loss": losses.mean(axis=1),
            "cost": (losses - losses[0]).mean(axis=1),
            "cost_stderr": standard_error((losses - losses[0]).T),
        }
    )


Measure = Callable[[HookedTransformer, HeadIndex, Int[Tensor, "batch pos"], list[Hook]], Float[Tensor, "batch"]]


def _measured(
    model: HookedTransformer,
    source: HeadIndex,
    reader: HeadIndex,
    tokens: Int[Tensor, "example pos"],
    measure: Measure,
    batch_size: int | None,
) -> Float[np.ndarray, "path example"]:
    """A measure of every example along every path."""
    tokens, parts = tokens.detach().to("cpu", torch.int64), list[Tensor]()
    with measuring(model), fastest_float32():
        for examples in head_batches(model, reader, tokens, batch_size):
            batch = tokens[examples]
            reading = read_head(model, reader, batch)
            hooks = [_hooks(source, reader, _removed(reading, source, path)) for path in PATHS]
            parts.append(torch.stack([measure(model, reader, batch, of_path).cpu() for of_path in hooks]))
    return to_numpy(torch.cat(parts, dim=1)).astype(np.float64)


def _removed(reading: HeadReading, source: HeadIndex, path: str) -> _Removed:
    """What a path changes."""
    if path in (INTACT, "everything"):
        return _Removed(zeroed=path == "everything")
    if path == "all but its pattern":
        return _Removed(zeroed=True, pattern=reading.scores.softmax(dim=-1))
    if path == "all but its values":
        return _Removed(zeroed=True, values=reading.whole("v"))
    changed = reading.without(reading.written(source))
    q, k, v = ((changed if side in _INPUTS[path] else reading).whole(side) for side in ("q", "k", "v"))
    return _Removed(zeroed=False, pattern=reading.pattern(q, k), values=v)


def _hooks(source: HeadIndex, reader: HeadIndex, removed: _Removed) -> list[Hook]:
    """Hooks that remove a head everywhere and replace another one's pattern and values.

    Values are replaced at z, so that heads that share them with the later head keep theirs.
    """
    seen: list[Tensor] = []

    def zero(z: Tensor, hook: HookPoint) -> Tensor:  # noqa: ARG001
        z = z.clone()
        z[:, :, source.head] = 0
        return z

    def replace_pattern(pattern: Tensor, hook: HookPoint) -> Tensor:  # noqa: ARG001
        pattern = pattern.clone()
        if removed.pattern is not None:
            pattern[:, reader.head] = removed.pattern.to(pattern)
        seen.append(pattern[:, reader.head])
        return pattern

    def replace_values(z: Tensor, hook: HookPoint) -> Tensor:  # noqa: ARG001
        pattern = seen.pop()
        z = z.clone()
        if removed.values is not None:
            z[:, :, reader.head] = (pattern @ removed.values.to(pattern)).to(z)
        return z

    prefix = f"blocks.{reader.layer}.attn.hook_"
    hooks: list[Hook] = [(f"blocks.{source.layer}.attn.hook_z", zero)] if removed.zeroed else []
    return [*hooks, (prefix + "pattern", replace_pattern), (prefix + "z", replace_values)]


def _prefix_matching(
    model: HookedTransformer, reader: HeadIndex, tokens: Int[Tensor, "batch pos"], hooks: list[Hook]
) -> Float[Tensor, "batch"]:
    kept: list[Tensor] = []

    def keep(pattern: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        kept.append(widen(pattern[:, reader.head]))

    shown: Hook = (f"blocks.{reader.layer}.attn.hook_pattern", keep)  # after those that change it
    model.run_with_hooks(
        tokens.to(model.cfg.device), return_type=None, stop_at_layer=reader.layer + 1, fwd_hooks=[*hooks, shown]
    )
    return prefix_matching_of(kept[0], prefix_targets(tokens, 0, 1).to(kept[0].device))


def _losses(
    model: HookedTransformer,
    reader: HeadIndex,  # noqa: ARG001
    tokens: Int[Tensor, "batch pos"],
    hooks: list[Hook],
) -> Float[Tensor, "batch"]:
    everywhere = torch.arange(1, tokens.shape[1], device="cpu").expand(len(tokens), -1)
    return start_rows(model, tokens.to(model.cfg.device)).losses(everywhere, hooks=hooks).mean(dim=1)

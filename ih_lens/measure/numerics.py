"""Half precision with care, and forward passes that leave the range of their numbers: where, and what to do."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ih_lens.errors import NumericsError
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.types import Hook, ModelLike

_HALF = (torch.float16, torch.bfloat16)
_EXAMPLES_AT_ONCE = 4
"""When a place is looked for, with all logits."""
_HEAD_AXES = {
    "attn.hook_q": ("queries", 2),
    "attn.hook_k": ("keys", 2),
    "attn.hook_v": ("values", 2),
    "attn.hook_attn_scores": ("attention scores", 1),
    "attn.hook_pattern": ("attention pattern", 1),
    "attn.hook_z": ("outputs z", 2),
}
"""What belongs to single heads: its name, and the axis that the heads are on."""
_OTHERS = {
    "hook_embed": "embeddings",
    "hook_pos_embed": "positional embeddings",
    "ln1.hook_normalized": "normalised input of the attention",
    "hook_attn_out": "output of the attention",
    "hook_resid_mid": "residual stream behind the attention",
    "ln2.hook_normalized": "normalised input of the MLP",
    "mlp.hook_pre": "neurons of the MLP before their activation function",
    "mlp.hook_post": "neurons of the MLP",
    "hook_mlp_out": "output of the MLP",
    "hook_resid_post": "residual stream behind the layer",
    "ln_final.hook_normalized": "normalised final residual stream",
    "unembed.hook_in": "normalised final residual stream with its gain",
    "unembed.hook_out": "logits",
}


def widen(activation: Tensor) -> Tensor:
    """Half precision as float32, so that sums and means are taken there; wider types as they are."""
    return activation.float() if activation.dtype in _HALF else activation


class ScoreWatch:
    """Looks at the attention scores of a `HookedTransformer` in half precision as its softmax is about to get them.

    TransformerLens sets patterns to zero where their scores overflowed, so that nothing in the result tells of it.
    Wider types cannot overflow there with weights of any use, and are not looked at.

    Args:
        model: any model; only those above get hooks.
        layers: which ones to look at.
        widens: whether the softmax is to be computed in float32, for who reads patterns. What the model goes on
            with stays the same: it rounds the pattern once in either case.
    """

    def __init__(self, model: ModelLike, layers: Iterable[int], *, widens: bool = False) -> None:
        self._model, self._layers, self._widens = model, list(layers), widens
        self._largest: dict[int, Tensor] = {}
        watched = isinstance(model, HookedTransformer) and model.cfg.dtype in _HALF
        self.hooks: list[Hook] = [self._hook(layer) for layer in self._layers] if watched else []

    def check(self, tokens: Int[Tensor, "batch pos"]) -> None:
        """Tell of scores that overflowed, or rather of what went wrong before them.

        Raises:
            NumericsError: naming layer and head.
        """
        for layer, largest in self._largest.items():
            is_bad = ~largest.isfinite()
            if bool(is_bad.any()):
                require_finite_pass(self._model, tokens)
                where = f"layer {layer}, head {int(is_bad.nonzero()[0])}: attention scores of a changed run"
                raise NumericsError(_message(self._model, where))

    def _hook(self, layer: int) -> Hook:
        def look(scores: Tensor, hook: HookPoint) -> Tensor | None:  # noqa: ARG001
            largest = scores.detach().amax(dim=(0, 2, 3))  # masked ones are minus infinity
            self._largest[layer] = largest + self._largest.get(layer, torch.zeros_like(largest))
            return scores.float() if self._widens else None

        return f"blocks.{layer}.attn.hook_attn_scores", look


def require_finite_pass(model: ModelLike, tokens: Int[Tensor, "batch pos"]) -> None:
    """Run a model once more, and tell where the first NaN or infinity comes from if there is any.

    Args:
        model: in the state in which it is measured (`measuring`).
        tokens: what it was measured on.

    Raises:
        NumericsError: naming layer, head and quantity.
    """
    found: list[str] = []

    def hook(name: str) -> Hook:
        def look(activation: Any, hook: HookPoint) -> None:  # noqa: ARG001
            if not found and isinstance(activation, Tensor) and activation.is_floating_point():
                bad = _not_finite(activation, name)
                if bool(bad.any()):
                    found.append(_place(bad, name, start))

        return name, look

    hooks = [hook(name) for name in cast(Any, model).hook_dict if _quantity(name) is not None]
    for start in range(0, len(tokens), _EXAMPLES_AT_ONCE):
        batch = tokens[start : start + _EXAMPLES_AT_ONCE].to(model.cfg.device)
        model.run_with_hooks(batch, return_type="logits", fwd_hooks=hooks)
        if found:
            raise NumericsError(_message(model, found[0]))


def require_finite_losses(model: ModelLike, tokens: Int[Tensor, "batch pos"], losses: Iterable[Tensor]) -> None:
    """Refuse losses of the model itself that are NaN or infinite.

    Raises:
        NumericsError: naming where in the model this comes from.
    """
    if all(bool(view.isfinite().all()) for view in losses):
        return
    require_finite_pass(model, tokens)
    raise NumericsError(_message(model, "losses"))


def require_finite_ablations(
    model: ModelLike, tokens: Int[Tensor, "batch pos"], names: Iterable[str], losses: Iterable[Tensor]
) -> None:
    """Refuse losses [group, ...] with heads ablated that are NaN or infinite.

    Raises:
        NumericsError: naming where in the model this comes from, or else the ablated heads.
    """
    views = list(losses)
    for place, name in enumerate(names):
        if not all(bool(view[place].isfinite().all()) for view in views):
            require_finite_pass(model, tokens)
            raise NumericsError(_message(model, f"losses with {name} ablated"))


def _quantity(name: str) -> str | None:
    """Which of the known hook points this is, whatever layer it is in."""
    return next((known for known in (*_HEAD_AXES, *_OTHERS) if name == known or name.endswith(f".{known}")), None)


def _not_finite(activation: Tensor, name: str) -> Bool[Tensor, "..."]:
    """Entries that no sound run has; masked scores are minus infinity."""
    if name.endswith("hook_attn_scores"):
        return activation.isnan() | activation.isposinf()
    return ~activation.isfinite()


def _place(bad: Bool[Tensor, "..."], name: str, first_example: int) -> str:
    """Layer, head and quantity of a hook point, and the first example."""
    known = _quantity(name) or name
    layer = f"layer {name.split('.')[1]}, " if name.startswith("blocks.") else ""
    example = f"in example {first_example + int(bad.flatten(1).any(dim=1).nonzero()[0])}"
    if known not in _HEAD_AXES or bad.ndim != 4:
        return f"{layer}{_OTHERS.get(known, known)} ({name}) {example}"
    what, axis = _HEAD_AXES[known]
    of_heads = bad.transpose(0, axis).flatten(1).any(dim=1)
    return f"{layer}head {int(of_heads.nonzero()[0])}: {what} ({name}) {example}"


def _message(model: ModelLike, where: str) -> str:
    dtype = next(cast(nn.Module, model).parameters()).dtype
    kind, largest = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    wider = "float32" if dtype in _HALF else "float64"
    return (
        f"{where}: NaN or infinity in the forward pass. Numbers of {kind} end at {largest:.3g}; load the model in "
        f"{wider} (load_model(..., dtype=torch.{wider})), and if that does not help, its weights are damaged"
    )

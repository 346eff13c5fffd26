"""Generation under clamps: every new token is computed from all tokens before it, so that clamps see them."""

from collections.abc import Generator
from contextlib import contextmanager
from inspect import signature
from types import MethodType
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ih_lens.models.hooked_transformer import HookedTransformer, LoadedModel


@contextmanager
def generating_from_tokens(model: LoadedModel) -> Generator[None]:
    """While it lasts, `model.generate` runs the model from its tokens at every step, without a key-value cache.

    By itself a `HookedTransformer` embeds each token once and hands later passes a residual stream, or only its last
    position.
    """
    if "generate" in vars(model):  # inside another clamp
        yield
        return
    setattr(model, "generate", MethodType(_generate, model))  # noqa: B010 a method, so that a copy has its own
    try:
        yield
    finally:
        delattr(model, "generate")


def _generate(model: LoadedModel, *args: Any, **kwargs: Any) -> Any:
    """What TransformerLens's method gives, of which the docstring is there."""
    original, whole = type(model).generate, cast(Any, type(model).forward)
    call = signature(original).bind(model, *args, **kwargs)
    call.arguments["use_past_kv_cache"] = False
    if not isinstance(model, HookedTransformer):
        return original(*call.args, **call.kwargs)  # a bridge then runs every step from its tokens
    embedded: list[Int[Tensor, "batch new_pos"]] = []
    inside: list[bool] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:  # noqa: ARG001 PyTorch passes both
        if not inside:
            embedded.append(arguments[0])

    def forward(*args: Any, **options: Any) -> Any:
        steps = options.get("start_at_layer") == 0 and not inside  # other passes are those that clamps ask for
        inside.append(True)
        try:
            if steps:
                args, options = (torch.cat(embedded, dim=1),), {"attention_mask": options["attention_mask"]}
            return whole(model, *args, **options)
        finally:
            inside.pop()

    handle = model.embed.register_forward_pre_hook(note)
    setattr(model, "forward", forward)  # noqa: B010
    try:
        return original(*call.args, **call.kwargs)
    finally:
        delattr(model, "forward")
        handle.remove()

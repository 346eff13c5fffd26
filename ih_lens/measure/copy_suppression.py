"""Copy suppression: heads that look at what earlier layers predict, and lower its logit (McDougall et al. 2023)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import token_pool
from ih_lens.data.streams import Stream, random_words
from ih_lens.errors import CapabilityError
from ih_lens.head_spread import WITHOUT_EXAMPLES, HeadSpread
from ih_lens.measure.attention import batches, measurable_tokens
from ih_lens.measure.forward import LOGITS_PER_CHUNK, measuring
from ih_lens.measure.numerics import ScoreWatch, require_finite_pass, widen
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import differing_vocabularies, require_direct_path
from ih_lens.models.effective import (
    fold_embedding,
    fold_unembedding,
    layer_matrix,
    precise,
    unembedding_columns,
    value_bias,
)
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import HeadScores
from ih_lens.types import Hook, ModelLike

N_TOKENS = 512
"""Of the vocabulary, for ranks."""
LOWEST = 0.01
"""Share of these tokens that counts as the lowest."""

_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "attention_to_predicted": {
        "definition": "attention summed over earlier occurrences of the token that the residual stream before the "
        "layer predicts; mean over queries at which it occurs earlier and is not the present token, then over examples",
        "range": (0.0, 1.0),
    },
    "copy_suppression": {
        "definition": "minus what the head adds, from these occurrences, to the logit of the predicted token along the "
        "direct path, final scale included; mean over the same queries; nats, positive where it lowers the logit",
    },
    "ov_suppression": {
        "definition": f"share of tokens t whose own logit is among the lowest {LOWEST:.0%} (at least one) of E_t W_V "
        f"W_O W_U over a sample of up to {N_TOKENS} random tokens; effective weights",
        "range": (0.0, 1.0),
    },
}


def no_copy_suppression(model: ModelLike, reason: str) -> HeadScores:
    """The same measures where the model does not allow them: NaN, and why."""
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    return HeadScores.from_tensors(
        {name: torch.full(shape, torch.nan, device="cpu") for name in _ATTRIBUTES},
        attributes={name: {**about, "undefined": reason} for name, about in _ATTRIBUTES.items()},
        spread=HeadSpread.from_tensors(dict.fromkeys(_ATTRIBUTES, reason), *shape, keep_examples=False),
    )


@torch.no_grad()
def copy_suppression(
    model: ModelLike, tokens: Tensor, *, seed: int = 0, batch_size: int | None = None, keep_examples: bool = True
) -> HeadScores:
    """How far each head looks at tokens of the context that are about to be predicted, and lowers their logits.

    The prediction is that of earlier layers: the most likely token if the residual stream before the head's layer went
    straight through the final norm and the unembedding. A copy-suppression head has a high `attention_to_predicted`, a
    positive `copy_suppression` (an induction head in whose layer something is predicted already has a negative one),
    and a high `ov_suppression`: for most tokens, its OV circuit lowers the token itself more than nearly all others.

    The first two are the functional side of the claim, the third that of the weights, with the embedding as it is;
    McDougall et al. take the stream after the first MLP instead, which changes their ranks for models whose first layer
    works as a part of the embedding.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos] in which something can be predicted from the context, such as
            `repeated_random_tokens`.
        seed: of the random tokens for ranks.
        batch_size: examples per run of the model; the result does not depend on it.
        keep_examples: keep what each example gave, for bootstrap intervals.

    Returns:
        `attention_to_predicted` (0 to 1), `copy_suppression` (nats) and `ov_suppression` (0 to 1), [layer, head]. The
        first two are NaN in layers before which no token of the context is predicted in any example, as most often in
        the first.

    Raises:
        NumericsError: if the run gives NaN or infinity, with layer and head.
        CapabilityError: if the heads' outputs do not reach the logits linearly, or output vocabularies differ.
        InputError: if the weights or tokens cannot be used.

    Examples:
        >>> scores = copy_suppression(model, repeated_random_tokens(model))
        >>> scores.top("copy_suppression", 3)
    """
    tokens = measurable_tokens(model, tokens, min_length=2)
    require_direct_path(model, "copy suppression")
    reason = differing_vocabularies(model, "copy suppression")
    if reason is not None:
        raise CapabilityError(reason)
    lens, on_device = _Lens(model), tokens.to(model.cfg.device)
    parts = [_Batch(model, on_device[examples], lens).measure() for examples in batches(model, tokens, batch_size)]
    attention, effect = (torch.cat([part[place] for part in parts]) for place in range(2))
    scores = {
        "attention_to_predicted": attention.nanmean(dim=0),
        "copy_suppression": -effect.nanmean(dim=0),
        "ov_suppression": _ov_suppression(model, seed),
    }
    spread = HeadSpread.from_tensors(
        {"attention_to_predicted": attention, "copy_suppression": -effect, "ov_suppression": WITHOUT_EXAMPLES},
        model.cfg.n_layers,
        model.cfg.n_heads,
        keep_examples=keep_examples,
    )
    attributes = {name: dict(about) for name, about in _ATTRIBUTES.items()}
    silent = [str(layer) for layer, found in enumerate(scores["attention_to_predicted"].isnan().all(dim=-1)) if found]
    if silent:
        why = f"layer {', '.join(silent)}: no token of the context is predicted before it"
        attributes["attention_to_predicted"]["undefined"] = attributes["copy_suppression"]["undefined"] = why
    return HeadScores.from_tensors(
        scores, provenance=provenance(model, seed=seed), attributes=attributes, spread=spread
    )


@dataclass
class _Batch:
    """One run of the model: what is predicted before each layer, and what its heads do about it.

    Attributes:
        model: what is run.
        tokens: the batch.
        lens: reads predictions off the residual stream.
        attention: per layer, attention to occurrences of what is predicted [batch, head, query].
        effect: per layer, what is moved from there to its logit, before the final scale.
        queries: per layer, where something is predicted that occurs earlier [batch, query].
        scale: of the final norm; None where there is none.
        is_finite: whether everything that was read is.
    """

    model: Any
    tokens: Int[Tensor, "batch pos"]
    lens: "_Lens"
    attention: list[Tensor] = field(default_factory=list)
    effect: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    scale: Tensor | None = None
    is_finite: bool = True

    def measure(self) -> tuple[Float[Tensor, "batch layer head"], Float[Tensor, "batch layer head"]]:
        """Attention to predicted tokens, and the effect on their logits; NaN for examples without such a query."""
        hooks = [hook for layer in range(self.model.cfg.n_layers) for hook in self._hooks(layer)]
        if self.model.cfg.normalization_type is not None:
            hooks.append(("ln_final.hook_scale", self._keep_scale))
        watch = ScoreWatch(self.model, range(self.model.cfg.n_layers), widens=True)
        with measuring(self.model), fastest_float32():
            self.model.run_with_hooks(self.tokens, return_type=None, fwd_hooks=[*watch.hooks, *hooks])
            watch.check(self.tokens)
            if not self.is_finite:  # else what is not predicted would pass for what went wrong
                require_finite_pass(self.model, self.tokens)
        effect = torch.stack(self.effect, dim=1)
        if self.scale is not None:
            effect = effect / self.scale[:, None, None, :, 0].to(effect)
        n_queries = torch.stack(self.queries, dim=1).sum(dim=-1)[..., None]
        attention = torch.stack(self.attention, dim=1).sum(dim=-1) / n_queries
        return attention, effect.sum(dim=-1) / n_queries

    def _keep_scale(self, scale: Tensor, hook: Any) -> None:  # noqa: ARG002
        self.scale = widen(scale)

    def _hooks(self, layer: int) -> list[Hook]:
        """What is read while one layer runs: the stream before it, its values, its patterns."""
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def keep_it(activation: Tensor, hook: Any) -> None:  # noqa: ARG001
                seen[name] = widen(activation)

            return keep_it

        def finish(pattern: Tensor, hook: Any) -> None:  # noqa: ARG001
            self._look(layer, seen.pop("stream"), seen.pop("values"), widen(pattern))

        block = f"blocks.{layer}."
        return [
            (f"{block}hook_resid_pre", keep("stream")),
            (f"{block}attn.hook_v", keep("values")),
            (f"{block}attn.hook_pattern", finish),
        ]

    def _look(
        self,
        layer: int,
        stream: Float[Tensor, "batch pos d_model"],
        values: Float[Tensor, "batch pos some_heads d_head"],
        pattern: Float[Tensor, "batch head_index pos pos"],
    ) -> None:
        """Attention to earlier occurrences of the predicted tokens, and what it moves to their logits."""
        predicted = self.lens.predicted(stream)
        tokens = self.tokens.to(predicted.device)
        occurs = (predicted[:, :, None] == tokens[:, None, :]).tril(-1)
        places = occurs & (predicted != tokens)[:, :, None]
        own_values = values.repeat_interleave(pattern.shape[1] // values.shape[2], dim=2)
        moved = own_values - value_bias(self.model, layer).to(values)
        columns = unembedding_columns(self.model, predicted).to(values)
        reads = torch.einsum("bqm,hdm->bqhd", columns, layer_matrix(self.model, "W_O", layer).to(values))
        attended = pattern * places[:, None]
        self.attention.append(attended.sum(dim=-1).cpu())
        self.effect.append((attended * torch.einsum("bkhd,bqhd->bhqk", moved, reads)).sum(dim=-1).cpu())
        self.queries.append(places.any(dim=-1).cpu())
        self.is_finite &= all(bool(part.isfinite().all()) for part in (stream, values, pattern))


class _Lens:
    """The final norm and the unembedding, as they would read the residual stream before any layer."""

    def __init__(self, model: Any) -> None:
        cfg, W_U = model.cfg, precise(model.unembed.W_U)
        norm_bias = getattr(getattr(model, "ln_final", None), "b", None)
        self.W_U = fold_unembedding(model, W_U)
        self.offset = precise(model.unembed.b_U)
        if norm_bias is not None:
            self.offset = self.offset + precise(norm_bias) @ W_U
        self.scales = cfg.normalization_type is not None
        self.centres = str(cfg.normalization_type).startswith("LN") and not getattr(cfg, "final_rms", False)
        self.eps = cfg.eps

    def predicted(self, stream: Float[Tensor, "batch pos d_model"]) -> Int[Tensor, "batch pos"]:
        """The most likely next token at each place."""
        if self.scales:
            centred = stream - stream.mean(dim=-1, keepdim=True) if self.centres else stream
            stream = stream / (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        W_U, offset = self.W_U.to(stream), self.offset.to(stream)
        rows = stream.flatten(0, 1).split(max(1, LOGITS_PER_CHUNK // W_U.shape[1]))
        return torch.cat([(part @ W_U + offset).argmax(dim=-1) for part in rows]).view(stream.shape[:2])


def _ov_suppression(model: ModelLike, seed: int) -> Float[Tensor, "layer head"]:
    """Share of tokens whose own logit is among the lowest that the OV circuit gives to a sample of tokens."""
    pool = token_pool(model).ids
    drawn = pool[random_words(seed, Stream.RANDOM_TOKENS, 0, len(pool)).argsort(kind="stable")[:N_TOKENS]]
    sample = torch.from_numpy(drawn)
    W_E = cast(Any, model).embed.W_E.detach()
    rows = fold_embedding(model, precise(W_E[sample.to(W_E.device)]))
    columns = unembedding_columns(model, sample).to(rows)
    n_lowest = max(1, math.ceil(LOWEST * len(sample)))
    shares: list[Tensor] = []
    for layer in range(model.cfg.n_layers):
        W_V, W_O = layer_matrix(model, "W_V", layer).to(rows), layer_matrix(model, "W_O", layer).to(rows)
        logits = (rows @ W_V) @ (W_O @ columns.T)
        n_not_above = (logits <= logits.diagonal(dim1=-2, dim2=-1)[..., None]).sum(dim=-1) - 1
        shares.append((n_not_above < n_lowest).to(rows).mean(dim=-1).cpu())
    return torch.stack(shares)

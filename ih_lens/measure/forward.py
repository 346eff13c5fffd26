"""Forward passes that measurements share: started once, continued from any layer, read only where needed."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.utilities.activation_functions import apply_softcap

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.measure.numerics import ScoreWatch, widen
from ih_lens.models.autocast import without_autocast
from ih_lens.models.capabilities import require_causal
from ih_lens.models.folded import FoldedModel
from ih_lens.models.fused_forward import fused_layers, may_fuse
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.memory import let_memory_be_used_again
from ih_lens.types import Hook, ModelLike
from ih_lens.validate import at_least, finite_weights, token_batch

TOKENS_PER_PASS_ON_ACCELERATOR = 32768

STREAM_ON_CPU = 2**19
"""Numbers in the residual streams that exist at once on a CPU: 2 MB in float32."""
LOGITS_PER_CHUNK = 2**22
"""Logits that exist at once: 16 MB in float32, whatever the vocabulary."""


def check_measurable(model: ModelLike, evals: EvalSet) -> None:
    """Refuse a model that predicts no next tokens or has damaged weights, and examples that it cannot read.

    Raises:
        CapabilityError: for encoders and other models that see later tokens.
        InputError: naming the weights, or the tokens that do not fit the vocabulary or the context.
    """
    if not isinstance(evals, EvalSet):
        raise InputError(
            f"evals: expected an EvalSet, got {type(evals).__name__}; make one with EvalSet.from_tokens(tokens, seed=0)"
        )
    require_causal(model)
    finite_weights(as_module(model))
    token_batch(evals.tokens, d_vocab=model.cfg.d_vocab, n_ctx=model.cfg.n_ctx, min_length=2)
    d_vocab_out, largest = model.cfg.d_vocab_out, int(evals.tokens[:, 1:].max())  # the first is not predicted
    if largest >= d_vocab_out:
        raise InputError(
            f"tokens: id {largest} is to be predicted, but the model's output vocabulary has only {d_vocab_out} ids "
            f"(its input vocabulary {model.cfg.d_vocab}); use examples in which only the first token lies beyond it"
        )


def as_module(model: ModelLike) -> nn.Module:
    """The model as the PyTorch module that it is."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a HookedTransformer, got {type(model).__name__}; load one with load_model")
    return model


def loss_dtype(model: ModelLike) -> torch.dtype:
    """Losses are float32 at least; float64 models keep float64."""
    return torch.promote_types(next(as_module(model).parameters()).dtype, torch.float32)


def rows_per_pass(model: ModelLike, n_pos: int, batch_size: int | None, *, tokens_on_cpu: int) -> int:
    """How many examples (or copies of examples) go through the model together.

    Without a batch size as many as make a fixed number of tokens, on a CPU so few that a pass stays near its caches.
    Free memory is never asked, so that nothing depends on what else runs.
    """
    if batch_size is not None:
        return at_least("batch_size", batch_size, 1)
    on_cpu = next(as_module(model).parameters()).device.type == "cpu"
    return max(1, (tokens_on_cpu if on_cpu else TOKENS_PER_PASS_ON_ACCELERATOR) // n_pos)


@contextmanager
def measuring(model: ModelLike) -> Generator[None]:
    """No gradients, no autocast, evaluation mode, start tokens that are seen; afterwards the model is as it was.

    `no_grad` and not `inference_mode`: TransformerLens keeps tables of positions in the model when it first needs
    them, and those made in inference mode could not be trained with afterwards.
    """
    let_memory_be_used_again()
    was_training = [module for module in as_module(model).modules() if module.training]
    as_module(model).eval()
    try:
        with torch.no_grad(), without_autocast(), _start_token_seen(model):
            yield
    finally:
        for module in was_training:
            module.training = True


@contextmanager
def _start_token_seen(model: ModelLike) -> Generator[None]:
    """Let TransformerLens know that examples begin with a start token, where they do.

    Where a tokenizer pads on the left with its start token, TransformerLens takes the first token for padding in models
    that it prepends none to by default (Pythia), and nothing attends to it.
    """
    if not isinstance(model, HookedTransformer):
        yield
        return
    by_default, model.cfg.default_prepend_bos = model.cfg.default_prepend_bos, True
    try:
        yield
    finally:
        model.cfg.default_prepend_bos = by_default


def folded_if_unobserved(model: ModelLike) -> FoldedModel | None:
    """The model for passes without hooks; None where they might give something else than the model itself."""
    if not isinstance(model, HookedTransformer) or not may_fuse(model):
        return None
    if model.tokenizer is not None and getattr(model.tokenizer, "padding_side", "right") == "left":
        return None  # TransformerLens then takes tokens that look like padding out of attention
    return FoldedModel.of(model)


@runtime_checkable
class Rows(Protocol):
    """Examples on their way through a model, one row each."""

    @property
    def may_share_attention(self) -> bool:
        """Whether hooks may give later attention layers another number of rows than the residual stream has."""
        ...

    def repeat(self, n_copies: int) -> "Rows":
        """All rows once more per copy, one copy after the other."""
        ...

    def advance(self, layer: int, hooks: Sequence[Hook] = ()) -> "Rows":
        """The rows as they enter `layer`, with hooks in effect until there."""
        ...

    def losses(
        self, indices: Int[Tensor, "kept context_index"], *, hooks: Sequence[Hook] = (), skip: int = 0
    ) -> Float[Tensor, "kept context_index"]:
        """Run to the end; the loss at the given context indices of every row but the first `skip`."""
        ...


def start_rows(model: ModelLike, tokens: Int[Tensor, "row pos"]) -> Rows:
    """Rows before the first layer.

    A HookedTransformer can be continued from any layer, so nothing is computed twice; any other model is run from
    its tokens each time, because TransformerLens's bridges execute the earlier layers all the same.
    """
    if not isinstance(model, HookedTransformer):
        return TokenRows(model, tokens.to(next(as_module(model).parameters()).device))
    residual, _, shortformer_pos_embed, attention_mask = model.input_to_embed(tokens)
    return ResidualRows(model, tokens, 0, residual, shortformer_pos_embed, attention_mask)


@dataclass(frozen=True, repr=False)
class ResidualRows:
    """Rows of a HookedTransformer: the residual stream before `layer`, and what later layers need beside it."""

    model: HookedTransformer
    tokens: Int[Tensor, "row pos"]
    layer: int
    residual: Float[Tensor, "row pos d_model"]
    shortformer_pos_embed: Float[Tensor, "row pos d_model"] | None
    attention_mask: Tensor | None

    @property
    def may_share_attention(self) -> bool:
        """Nothing that counts rows, be it a mask or a hook of the user's, stands between values and z."""
        return self.attention_mask is None and not any(
            block.attn.hook_z.fwd_hooks for block in self.model.blocks[self.layer :]
        )

    def repeat(self, n_copies: int) -> "ResidualRows":
        """All rows once more per copy, one copy after the other."""

        def repeated(values: Any) -> Any:
            return None if values is None else values.repeat(n_copies, *[1] * (values.ndim - 1))

        return replace(
            self,
            tokens=repeated(self.tokens),
            residual=repeated(self.residual),
            shortformer_pos_embed=repeated(self.shortformer_pos_embed),
            attention_mask=repeated(self.attention_mask),
        )

    def advance(self, layer: int, hooks: Sequence[Hook] = ()) -> "ResidualRows":
        """The rows as they enter `layer`; only the layers between are run, fused where no hook looks on."""
        if layer == self.layer:
            return self
        if not hooks and self.attention_mask is None and may_fuse(self.model):
            layers = range(self.layer, layer)
            residual = fused_layers(self.model, self.residual, layers, self.shortformer_pos_embed)
            return replace(self, layer=layer, residual=residual)
        watch = ScoreWatch(self.model, range(self.layer, layer))
        residual = self.model.run_with_hooks(
            self.residual,
            fwd_hooks=[*hooks, *watch.hooks],
            start_at_layer=self.layer,
            stop_at_layer=layer,
            shortformer_pos_embed=self.shortformer_pos_embed,
            attention_mask=self.attention_mask,
        )
        watch.check(self.tokens)
        return replace(self, layer=layer, residual=residual)

    def losses(
        self, indices: Int[Tensor, "kept context_index"], *, hooks: Sequence[Hook] = (), skip: int = 0
    ) -> Float[Tensor, "kept context_index"]:
        """Losses in nats; the unembedding is applied only where one is asked for."""
        last = self.advance(self.model.cfg.n_layers, hooks)
        indices = indices.to(last.residual.device)
        predicting = at_rows(last.residual[skip:], indices - 1).flatten(0, 1)
        targets = self.tokens[skip:].to(indices.device).gather(1, indices).flatten()
        rows_at_once = max(1, LOGITS_PER_CHUNK // self.model.cfg.d_vocab_out)
        chunks = zip(predicting.split(rows_at_once), targets.split(rows_at_once), strict=True)
        return torch.cat([cross_entropy(self._unembed(at), target) for at, target in chunks]).view(indices.shape)

    def _unembed(self, residual: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab_out"]:
        """Logits from the final residual stream, as HookedTransformer.forward ends.

        Half precision is left before the unembedding, unless a hook waits there: logits of 100, as GPT-2's are,
        would be rounded to halves in bfloat16.
        """
        normalized = (
            residual[None] if self.model.cfg.normalization_type is None else self.model.ln_final(residual[None])
        )
        unembed = self.model.unembed
        is_wide = normalized.dtype in (torch.float32, torch.float64)
        if is_wide or any(module._forward_hooks or module._forward_pre_hooks for module in unembed.modules()):  # pyright: ignore[reportPrivateUsage]
            logits = unembed(normalized)
        else:
            logits = functional.linear(widen(normalized), widen(unembed.W_U).T, widen(unembed.b_U))
        return apply_softcap(logits, self.model.cfg.output_logits_soft_cap)[0]


@dataclass(frozen=True, repr=False)
class TokenRows:
    """Rows of a model that can only be run whole: their tokens, at every layer."""

    model: ModelLike
    tokens: Int[Tensor, "row pos"]

    @property
    def may_share_attention(self) -> bool:
        """What lies between the hooks of such a model is not known."""
        return False

    def repeat(self, n_copies: int) -> "TokenRows":
        """All rows once more per copy, one copy after the other."""
        return replace(self, tokens=self.tokens.repeat(n_copies, 1))

    def advance(self, layer: int, hooks: Sequence[Hook] = ()) -> "TokenRows":  # noqa: ARG002
        """The same rows; the model runs only if there are hooks that wait for it."""
        if hooks:
            self.model.run_with_hooks(self.tokens, fwd_hooks=list(hooks))
        return self

    def losses(
        self, indices: Int[Tensor, "kept context_index"], *, hooks: Sequence[Hook] = (), skip: int = 0
    ) -> Float[Tensor, "kept context_index"]:
        """Losses in nats from the logits of a whole run."""
        logits = self.model.run_with_hooks(self.tokens, fwd_hooks=list(hooks), return_type="logits")[skip:]
        indices = indices.to(logits.device)
        targets = self.tokens[skip:].to(logits.device).gather(1, indices)
        return cross_entropy(at_rows(logits, indices - 1).flatten(0, 1), targets.flatten()).view(indices.shape)


def cross_entropy(logits: Float[Tensor, "row d_vocab_out"], targets: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
    """-log softmax(logits)[target] in nats, in float32 at least."""
    return functional.cross_entropy(widen(logits), targets, reduction="none")


def at_rows(
    values: Float[Tensor, "*copy example pos width"], rows: Int[Tensor, "some_examples row"]
) -> Float[Tensor, "*copy some_examples row width"]:
    """Each example's entries at its own positions; values of one example stand for those of all."""
    examples = torch.arange(len(rows), device=rows.device)[:, None] if values.shape[-3] > 1 else rows.new_zeros(1, 1)
    return values[..., examples, rows, :]

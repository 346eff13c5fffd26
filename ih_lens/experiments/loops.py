"""Do induction heads drive a model into loops? Generation with and without them, and without others like them."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.clamping.apply import clamp
from ih_lens.clamping.clamps.head_outputs import ZeroHead
from ih_lens.data.eval_set import EvalSet
from ih_lens.data.repetition import repetition, require_room
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.experiments.matched_ablations import groups_like
from ih_lens.measure.forward import measuring
from ih_lens.measure.head_output_norms import head_output_norms
from ih_lens.measure.provenance import provenance
from ih_lens.models.hooked_transformer import HookedTransformer, LoadedModel
from ih_lens.progress import with_progress
from ih_lens.results import json_safe
from ih_lens.types import HeadIndex, HeadSpelling, Hook
from ih_lens.validate import at_least, head_groups, one_of, token_batch

WHOLE, WITHOUT = "whole model", "without the heads"
_ROWS_AT_ONCE = 64


@torch.no_grad()
def generate_tokens(
    model: LoadedModel,
    prompts: Tensor,
    n_new: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Int[Tensor, "example new_pos"]:
    """Continue prompts, each new token computed from all before it, so that clamps in effect see them.

    Sampling adds the same noise (Gumbel's) to the logits whenever the seed is the same, so that two models, or one
    with and without a head, differ only where their logits do.

    Args:
        model: also inside `clamp`.
        prompts: ids [example, pos] of one length.
        n_new: tokens to generate; prompt and these must fit the context.
        temperature: 0 takes the most likely token, 1 samples from the model's own distribution.
        seed: of the noise.
        batch_size: prompts at once, 64 by default; the tokens do not depend on it, but for rounding.

    Returns:
        The new tokens alone.

    Raises:
        InputError: if the prompts do not fit the model, or a number is out of range.

    Examples:
        >>> prompts = random_tokens(model, length=12)
        >>> with clamp(model, ZeroHead("L5H1")):
        ...     continued = generate_tokens(model, prompts, 20)
        >>> continued.shape
        torch.Size([10, 20])
    """
    cfg = model.cfg
    ids = token_batch(prompts, d_vocab=cfg.d_vocab, n_ctx=cfg.n_ctx).detach().to("cpu", torch.int64)
    at_least("n_new", n_new, 1)
    require_room(ids.shape[1] + n_new, cfg.n_ctx)
    if temperature < 0:
        raise InputError(f"temperature: expected 0 or more, got {temperature}")
    size = _ROWS_AT_ONCE if batch_size is None else at_least("batch_size", batch_size, 1)
    made: list[Tensor] = []
    with measuring(model):
        for start in range(0, len(ids), size):
            so_far = ids[start : start + size]
            for new in range(n_new):
                logits = _next_logits(model, so_far.to(cfg.device)).double().cpu()
                if temperature > 0:
                    places = range(start, start + len(so_far))
                    logits = logits / temperature + _noise(seed, places, new, n_new, logits.shape[1])
                so_far = torch.cat([so_far, logits.argmax(dim=-1, keepdim=True)], dim=1)
            made.append(so_far[:, ids.shape[1] :])
    return torch.cat(made)


def _next_logits(model: LoadedModel, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab_out"]:
    """Logits after the last token; those of all positions are formed only where a model has no other way."""
    settings: dict[str, Any] = {"return_type": "logits", "prepend_bos": False}
    if not isinstance(model, HookedTransformer):
        return model(tokens, **settings)[:, -1]
    # the hooks of clamps were there before, and so run before this one
    last: Hook = (f"blocks.{model.cfg.n_layers - 1}.hook_resid_post", lambda residual, hook: residual[:, -1:])  # noqa: ARG005
    return cast(Tensor, model.run_with_hooks(tokens, fwd_hooks=[last], **settings))[:, -1]


def generation_loops(
    model: LoadedModel,
    prompts: Tensor,
    heads: Sequence[HeadSpelling],
    *,
    n_new: int = 50,
    temperature: float = 0.0,
    n_draws: int = 5,
    match: str = "layer",
    min_repeats: int = 3,
    max_period: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """How far a model repeats itself with and without some heads, and without random ones that match them.

    Heads are left out by setting what they write to zero, in every step of the generation.

    Args:
        model: a HookedTransformer, or a bridge whose hooks take effect.
        prompts: ids [example, pos] of one length: text, or random tokens.
        heads: such as the induction heads.
        n_new: tokens to generate per prompt.
        temperature: as in `generate_tokens`; sampling noise is the same in all conditions.
        n_draws: different random groups of as many heads; those there are, where these are fewer.
        match: "layer": as many other heads of the same layers; "norm": heads that write as much (see
            `matched_ablations`).
        min_repeats: as in `repetition`.
        max_period: as in `repetition`.
        seed: of the sampling, and of the draws.
        batch_size: prompts at once.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        What `repetition` tells over [condition, example] ("whole model", "without the heads", and "without" the heads
        of each draw), and `tokens` [condition, example, pos] that were generated.

    Raises:
        InputError: if prompts and new tokens do not fit the context, heads do not exist, or none are left to draw.

    Examples:
        >>> prompts = random_tokens(model, length=12)
        >>> found = generation_loops(model, prompts, ["L5H1", "L5H5"], n_new=50)
        >>> found["in_loop"].mean("example").to_series()
        >>> loop_effects(found).p_value(alternative="less")

    Whether induction heads are why language models get stuck in loops is an open question of the link post on the
    paper's precursor (Hubinger 2021).
    """
    one_of("match", match, ("layer", "norm"))
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    (group,) = head_groups([list(heads)], *shape)
    norms = None
    if match == "norm":
        norms = head_output_norms(model, EvalSet.from_tokens(prompts), batch_size=batch_size).double().numpy()
    drawn = groups_like(group, shape, at_least("n_draws", n_draws, 1), np.random.default_rng(seed), norms=norms)
    conditions: dict[str, Sequence[HeadIndex]] = {WHOLE: (), WITHOUT: group}
    conditions |= {"without " + "+".join(map(str, other)): other for other in drawn}
    found: list[xr.Dataset] = []
    for held in with_progress(list(conditions.values()), "generating", total=len(conditions), show=progress):
        with clamp(model, [ZeroHead(list(held))] if held else []):
            new = generate_tokens(model, prompts, n_new, temperature=temperature, seed=seed, batch_size=batch_size)
        told = repetition(new, min_repeats=min_repeats, max_period=max_period)
        found.append(told.assign(tokens=(("example", "pos"), new.numpy())))
    joined = xr.concat(found, dim="condition", combine_attrs="drop_conflicts")
    about = provenance(
        model,
        measure="generation_loops",
        heads="+".join(map(str, group)),
        match=match,
        n_new=n_new,
        temperature=temperature,
        seed=seed,
    )
    return joined.assign_coords(condition=list(conditions)).assign_attrs(json_safe({**joined.attrs, **about}))


def loop_effects(found: xr.Dataset, measure: str = "in_loop") -> Estimate:
    """What leaving heads out changes, paired over prompts: each condition less the whole model.

    Args:
        found: result of `generation_loops`.
        measure: "in_loop", "period", or "distinct_1" .. for distinct n-grams; times to loops are not defined for all.

    Returns:
        [condition] with its spread over prompts; negative where the model repeats itself less without the heads.

    Raises:
        InputError: if the measure is another.

    Examples:
        >>> effect = loop_effects(found)
        >>> effect.value.sel(condition="without the heads").item(), effect.stderr.max().item()
        (-0.62, 0.05)
    """
    distinct = {f"distinct_{n}": found["distinct"].sel(n=n, drop=True) for n in found["n"].to_numpy().tolist()}
    choices = {"in_loop": found["in_loop"], "period": found["period"], **distinct}
    values = choices[one_of("measure", measure, list(choices))].astype(float)
    whole = values.sel(condition=WHOLE, drop=True)
    changed = values.isel(condition=[name != WHOLE for name in values["condition"].to_numpy()]) - whole
    about = {**found.attrs, "definition": f"{measure}, without heads less with them, paired over prompts"}
    return Estimate.from_examples(changed.transpose("example", "condition"), attrs={**about})


def _noise(seed: int, rows: range, new: int, n_new: int, d_vocab: int) -> Float[Tensor, "row d_vocab"]:
    """Gumbel noise of these prompts at one new position; the same whatever is generated beside them."""
    words = [random_words(seed, Stream.GENERATION, (row * n_new + new) * d_vocab, d_vocab) for row in rows]
    uniform = torch.stack([torch.from_numpy(as_uniform(word)) for word in words]).clamp(min=1e-12, max=1 - 1e-12)
    return -(-uniform.log()).log()

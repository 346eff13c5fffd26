"""The row of behaviours on text: attention and attribution at chosen places, on GPT-2 small's shape."""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformer_lens import HookedTransformer

from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build, new_tokens
from ih_lens.data.behaviours.repeats import repeated_text
from ih_lens.measure.behaviours._base import TARGETS, BehaviourText, mean_over
from ih_lens.measure.behaviours.reading import ATTRIBUTION, ATTRIBUTION_ANYWHERE, read_texts

N_EXAMPLES, N_POS, SPAN = 10, 256, 16
NAMES = (TARGETS, ATTRIBUTION, ATTRIBUTION_ANYWHERE)


def cases(plan: Plan) -> list[Case]:
    """The row of the table."""
    work = f"literal copying and its logit attribution, every head, {N_EXAMPLES} texts of {N_POS} tokens"
    by_hand = "cache of patterns, values, z and the final scale, read at the places that count"
    opened = partial(_literal_copying, plan)
    return [Case("literal-copying", work, by_hand, opened, None, n_examples=N_EXAMPLES, rounds=plan.rounds(5))]


def _literal_copying(plan: Plan) -> Contest:
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)
    model.load_and_process_state_dict(
        model.state_dict(), fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True
    )
    n_pos = min(N_POS, model.cfg.n_ctx)

    def ours(texts: list[BehaviourText]) -> Numbers:
        found = read_texts(model, texts, attributed=True)
        return {name: found[name].mean(dim=0).float() for name in NAMES}

    return Contest(
        inputs=lambda seed, n_examples: [_text(model, n_pos, 1000 * seed + number) for number in range(n_examples)],
        today=timed(partial(_by_hand, model), plan.device),
        ours=timed(ours, plan.device),
    )


def _text(model: HookedTransformer, n_pos: int, seed: int) -> BehaviourText:
    """Random tokens with copies of spans, as the measure cuts them from text."""
    ids = new_tokens(model, 1, 2 * n_pos, seed)[0].tolist()
    span = min(SPAN, n_pos // 4 - 1)
    made = repeated_text(ids, n_pos=n_pos, span=span, layout="spans", start=None, generator=np.random.default_rng(seed))
    targets = {
        copy + step: (original + step + 1,) for copy, original, length in made.copies for step in range(length - 1)
    }
    return BehaviourText(made.ids, {TARGETS: mean_over(targets)})


@torch.inference_mode()
def _by_hand(model: HookedTransformer, texts: list[BehaviourText]) -> Numbers:
    tokens = torch.tensor([text.ids for text in texts], device=model.cfg.device)
    entries = [(example, *entry) for example, text in enumerate(texts) for entry in text.readings[TARGETS]]
    example, query, key = torch.tensor([entry[:3] for entry in entries], device=tokens.device).T
    weights = torch.tensor([entry[3] for entry in entries], device=tokens.device) / len(texts)
    kept = ("hook_pattern", "hook_v", "hook_z", "ln_final.hook_scale")
    _, cache = model.run_with_cache(tokens, return_type=None, names_filter=lambda name: name.endswith(kept))
    columns = model.unembed.W_U[:, tokens[example, query + 1]].T
    scaled = weights / cache["ln_final.hook_scale"][example, query, 0]
    found: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for layer, block in enumerate(model.blocks):
        attention = cache["pattern", layer][example, :, query, key]
        reads = torch.einsum("em,hdm->ehd", columns, block.attn.W_O)
        from_targets = attention * (cache["v", layer][example, key] * reads).sum(dim=-1)
        anywhere = (cache["z", layer][example, query] * reads).sum(dim=-1)
        for name, values, by in zip(NAMES, (attention, from_targets, anywhere), (weights, scaled, scaled), strict=True):
            found[name].append((values * by[:, None]).sum(dim=0).cpu())
    return {name: torch.stack(values) for name, values in found.items()}

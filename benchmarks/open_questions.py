"""The rows of repetition and skip-trigrams, on GPT-2 small's shape."""

from functools import partial

import torch
from torch import Tensor

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build
from ih_lens.models.effective import effective_weights, layer_matrix, unembedding_columns, value_bias

LENGTH, REPEATS = 10, 6
N_TRIPLES = 20


def cases(plan: Plan) -> list[Case]:
    """The rows of the table."""
    return [
        Case(
            "repetition-dominance",
            f"attention and attribution of every head to what was repeated, {LENGTH} random tokens {REPEATS} times",
            "cache of patterns and values, products and masks per layer",
            partial(_dominance, plan),
            n_examples=plan.examples(4),
            rounds=plan.rounds(3),
            tolerance=1e-3,
        ),
        Case(
            "skip-trigrams",
            f"the {N_TRIPLES} strongest skip-trigrams of a head",
            "both products of all tokens with all, some sources at a time, and the largest of each row",
            partial(_trigrams, plan),
            rounds=plan.rounds(2),
            n_warm_up=0,
            measures_memory=False,
        ),
    ]


def _dominance(plan: Plan) -> Contest:
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)

    def inputs(seed: int, n_examples: int) -> Tensor:
        return ih.repeated_random_tokens(
            model, length=LENGTH, repeats=REPEATS, n_examples=n_examples, seed=seed, bos=None
        )

    def ours(tokens: Tensor) -> Numbers:
        found = ih.repetition_dominance(model, tokens, max_repetitions=REPEATS - 1)
        return {name: torch.from_numpy(found[name].to_numpy()) for name in ("attention", "attribution")}

    @torch.inference_mode()
    def by_hand(tokens: Tensor) -> Numbers:
        hooks = ("hook_pattern", "attn.hook_v", "ln_final.hook_scale")
        _, cache = model.run_with_cache(tokens, return_type=None, names_filter=lambda name: name.endswith(hooks))
        reads = unembedding_columns(model, tokens[:, 1:]) / cache["ln_final.hook_scale"][:, :-1]
        n_dest = tokens.shape[1] - 1
        sources = torch.zeros(len(tokens), n_dest, n_dest, device=plan.device)
        for example, row in enumerate(tokens.tolist()):
            for dest in range(n_dest):
                for source in range(1, dest + 1):
                    matches = row[source] == row[dest + 1] and row[source - 1] == row[dest]
                    sources[example, dest, source] = float(matches)
        counts = sources.sum(dim=-1)
        kept: dict[str, list[Tensor]] = {"attention": [], "attribution": []}
        for layer in range(model.cfg.n_layers):
            pattern = cache["pattern", layer][:, :, :-1, :-1]
            values = cache["v", layer][:, :-1] - value_bias(model, layer)
            raised = torch.einsum("hdm,bqm->bhqd", layer_matrix(model, "W_O", layer), reads)
            written = pattern * torch.einsum("bhqd,bphd->bhqp", raised, values)
            kept["attention"].append((pattern * sources[:, None]).sum(dim=-1))
            kept["attribution"].append((written * sources[:, None]).sum(dim=-1))
        return {name: _by_count(torch.stack(parts, dim=1), counts) for name, parts in kept.items()}

    return Contest(inputs=inputs, today=timed(by_hand, plan.device), ours=timed(ours, plan.device))


def _by_count(values: Tensor, counts: Tensor) -> Tensor:
    """Means [layer, head, repetitions] of [example, layer, head, dest]: over destinations, then over examples."""
    columns: list[Tensor] = []
    for count in range(REPEATS):
        chosen = (counts == count).to(values)
        means = (values * chosen[:, None, None]).sum(dim=-1) / chosen.sum(dim=-1)[:, None, None]
        columns.append(means.mean(dim=0))
    return torch.stack(columns, dim=-1).cpu()


def _trigrams(plan: Plan) -> Contest:
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)

    def ours(head: int) -> Numbers:
        found = ih.skip_trigrams(model, (0, head), k=N_TRIPLES)
        return {"strength": torch.tensor(found["strength"].to_numpy(copy=True))}

    @torch.inference_mode()
    def by_hand(head: int) -> Numbers:
        weights = effective_weights(model)
        queries, keys, values = (weights.W_E @ matrix[0, head] for matrix in (weights.W_Q, weights.W_K, weights.W_V))
        keys, raised = keys - keys.mean(dim=0), weights.W_O[0, head] @ weights.W_U
        best = torch.zeros(0, device=plan.device)
        for sources in torch.arange(len(keys)).split(256):
            attended = (keys[sources] @ queries.T / model.cfg.attn_scale).clamp_min(0).topk(N_TRIPLES, dim=1).values
            logits = (values[sources] @ raised).topk(N_TRIPLES, dim=1).values
            products = (attended[:, :, None] * logits[:, None, :]).flatten()
            best = torch.cat([best, products]).topk(N_TRIPLES).values
        return {"strength": best.double().cpu()}

    def inputs(seed: int, n_examples: int) -> int:  # noqa: ARG001 of a head there is one
        return seed % model.cfg.n_heads

    today, our_side = timed(by_hand, plan.device), timed(ours, plan.device)
    return Contest(inputs=inputs, today=today, ours=our_side, relative=True)

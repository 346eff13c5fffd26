"""Scores as other projects define them, written anew from their definitions, to put beside those of this library.

Functions of patterns take the attention of one head, [example, query, key], on the tokens [example, pos] that it was
measured on.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.head_detector import (
    ErrorMeasure,
    compute_head_attention_similarity_score,
    get_induction_head_detection_pattern,
)

Pattern = Float[Tensor, "example query key"]
Tokens = Int[Tensor, "example pos"]


@torch.no_grad()
def patterns(model: HookedTransformer, tokens: Tokens) -> Float[Tensor, "layer example head_index query key"]:
    """Attention of all heads."""
    _, cache = model.run_with_cache(tokens)
    return torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])


def detect_head(
    pattern: Pattern, tokens: Tokens, *, exclude_bos: bool = False, error_measure: ErrorMeasure = "mul"
) -> float:
    """TransformerLens's own code: its detection pattern and its similarity, without the strings that it asks for."""
    scores = [
        compute_head_attention_similarity_score(
            of_example,
            detection_pattern=get_induction_head_detection_pattern(ids[None]).to(of_example),
            exclude_bos=exclude_bos,
            exclude_current_token=False,
            error_measure=error_measure,
        )
        for of_example, ids in zip(pattern, tokens, strict=True)
    ]
    return sum(scores) / len(scores)


def stripe(pattern: Pattern, length: int) -> float:
    """Mean of the whole diagonal `length` - 1 places back."""
    return float(pattern.diagonal(1 - length, dim1=-2, dim2=-1).mean())


def without_start(pattern: Pattern, length: int) -> float:
    """Attention on the diagonal of the second copy over all attention, start token left out as query and as key."""
    kept = pattern[:, 1:, 1:]
    wanted = kept.diagonal(1 - length, dim1=-2, dim2=-1)[:, 1:]
    return float((wanted.sum(-1) / kept.sum((-2, -1))).mean())


def by_places(pattern: Pattern, length: int, repeats: int) -> float:
    """Attention summed over places that are computed from the length, for the queries of the later repeats.

    The last token of a repeat gets, beside the places after its own earlier copies, the first place of all.
    """
    queries = range(length + 1, repeats * length + 1)
    sums = [
        pattern[:, query, [earlier * length + query % length + 1 for earlier in range(query // length)]].sum(-1)
        for query in queries
    ]
    return float(torch.stack(sums).mean())


def after_what_precedes(pattern: Pattern, tokens: Tokens) -> float:
    """Mean attention from i to j + 1 over all j < i - 1 whose token is the one before i: the token itself, earlier."""
    n_pos = tokens.shape[1]
    cells = [
        pattern[example, query, place + 1]
        for example in range(len(tokens))
        for query in range(2, n_pos)
        for place in range(query - 1)
        if tokens[example, query - 1] == tokens[example, place]
    ]
    return float(torch.stack(cells).mean())


@torch.no_grad()
def copying_at_own_position(model: HookedTransformer, tokens: Tokens, layer: int, head: int) -> float:
    """The share of the most attended token in what a head's value at the *present* position raises, 0 to 1.

    The head reads the embeddings, whatever its layer; its value goes through output matrix, output bias and
    unembedding without the final norm; probabilities, less their mean over the tokens so far, negative ones zero.
    """
    block = model.blocks[layer]
    read = block.ln1(model.embed(tokens) + model.pos_embed(tokens))
    attention = block.attn
    q, k, v = (
        read @ getattr(attention, f"W_{name}")[head] + getattr(attention, f"b_{name}")[head] for name in ("Q", "K", "V")
    )
    causal = torch.ones(tokens.shape[1], tokens.shape[1]).tril().bool()
    scores = (q @ k.mT / attention.attn_scale).masked_fill(~causal, -torch.inf)
    most_attended = scores.argmax(-1)
    probabilities = ((v @ attention.W_O[head] + attention.b_O) @ model.W_U).softmax(-1)
    shares = []
    for example, ids in enumerate(tokens):
        for query in range(1, len(ids)):
            so_far = probabilities[example, query, ids[: query + 1]]
            raised = (so_far - so_far.mean()).relu()
            total = raised.sum()
            shares.append(raised[most_attended[example, query]] / total if total > 0 else total * 0)
    return float(torch.stack(shares).mean())


@torch.no_grad()
def plain_ov_eigenvalues(model: HookedTransformer, layer: int, head: int) -> float:
    """Sum of real parts over sum of moduli for the weights as they stand in the model, no norm taken into them."""
    circuit = model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U
    eigenvalues = torch.linalg.eigvals(circuit)
    return float(eigenvalues.real.sum() / eigenvalues.abs().sum())

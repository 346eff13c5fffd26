"""What an induction head adds to the logit of the token that it looks at, and whether it raises that one most."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.errors import CapabilityError
from ih_lens.measure.forward import LOGITS_PER_CHUNK
from ih_lens.measure.head_reading import HeadReading
from ih_lens.models.capabilities import differing_vocabularies, require_direct_path
from ih_lens.models.effective import layer_matrix, precise, unembedding_columns
from ih_lens.types import ModelLike


def copying_obstacle(model: ModelLike) -> str | None:
    """Why no copied logit is defined; None where it is."""
    try:
        require_direct_path(model, "the copied logit")
    except CapabilityError as error:
        return str(error)
    return differing_vocabularies(model, "the copied logit")


def copied_reads(
    reading: HeadReading, tokens: Int[Tensor, "batch pos"], targets: Bool[Tensor, "batch query_pos key_pos"]
) -> Float[Tensor, "batch query_pos d_head"]:
    """What a head's z at each query is multiplied with to give the logit of the token at its targets.

    Divided by the number of the example's queries that have targets, and 0 at the others: the sum over queries is the
    example's copied logit.
    """
    columns = unembedding_columns(reading.model, tokens).to(reading.residual)
    n_targets = targets.sum(dim=-1, keepdim=True)
    share = targets.to(columns) / n_targets.clamp(min=1)
    W_O = layer_matrix(reading.model, "W_O", reading.head.layer)[reading.head.head].to(columns)
    return share @ columns @ W_O.mT / (n_targets > 0).sum(dim=1, keepdim=True)


def copied_first(
    reading: HeadReading, tokens: Int[Tensor, "batch pos"], targets: Bool[Tensor, "batch query_pos key_pos"]
) -> Float[Tensor, "batch"]:
    """The share of an example's queries at which the head raises no token's logit more than that of one at its targets.

    Of the head's whole output, through the effective unembedding (its bias left out).
    """
    model, head = reading.model, reading.head
    pattern = reading.scores.softmax(dim=-1)
    W_O = layer_matrix(model, "W_O", head.layer)[head.head].to(reading.residual)
    output = pattern @ reading.whole("v") @ W_O
    example, query = targets.any(dim=-1).nonzero().T
    best = _argmax_tokens(model, output[example, query])
    is_copied = (targets[example, query] & (tokens.to(best.device)[example] == best[:, None])).any(dim=-1)
    counts = output.new_zeros(2, len(tokens)).index_add_(
        1, example, torch.stack([is_copied, is_copied | True]).to(output)
    )
    return counts[0] / counts[1]


def _argmax_tokens(model: ModelLike, written: Float[Tensor, "row d_model"]) -> Int[Tensor, "row"]:
    """The token whose logit each vector raises most; logits exist for some rows at a time."""
    from_unembedding = _effective_unembedding(model).to(written)
    rows = max(1, LOGITS_PER_CHUNK // from_unembedding.shape[1])
    return torch.cat([(chunk @ from_unembedding).argmax(dim=-1) for chunk in written.split(rows)])


def _effective_unembedding(model: ModelLike) -> Float[Tensor, "d_model d_vocab_out"]:
    everything = torch.arange(model.cfg.d_vocab_out, device="cpu")
    return precise(unembedding_columns(model, everything)).mT

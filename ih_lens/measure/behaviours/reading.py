"""Reads attention and logit attribution of every head at chosen places of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.attention import batches, measurable_tokens, visit_attention
from ih_lens.measure.attribution import next_token_reads, unscaled_attribution, watch_final_scale
from ih_lens.measure.behaviours._base import TARGETS, BehaviourText, Entries
from ih_lens.measure.forward import measuring
from ih_lens.measure.fused_attention import FINAL_SCALE, LayerAttention
from ih_lens.measure.numerics import require_finite_pass
from ih_lens.models.effective import unembedding_columns
from ih_lens.types import ModelLike

ATTRIBUTION, ATTRIBUTION_ANYWHERE = "attribution", "attribution_anywhere"
"""Logits that come from the targets, and from all sources."""

Found = dict[str, Float[Tensor, "example layer head_index"]]


def padded_tokens(model: ModelLike, texts: Sequence[BehaviourText]) -> Int[Tensor, "example pos"]:
    """Ids of all texts, filled up behind their ends, which no earlier position sees."""
    longest = max(len(text.ids) for text in texts)
    rows = [[*text.ids, *[0] * (longest - len(text.ids))] for text in texts]
    return measurable_tokens(model, torch.tensor(rows, device="cpu"), min_length=2)


def read_texts(
    model: ModelLike, texts: Sequence[BehaviourText], *, attributed: bool, batch_size: int | None = None
) -> Found:
    """Every reading of every example, [example, layer, head]; NaN where an example says nothing.

    Args:
        model: any HookedTransformer.
        texts: examples, all with readings of the same names.
        attributed: with `attribution` and `attribution_anywhere` of the targets' destinations.
        batch_size: examples per run of the model; the result does not depend on it.

    Raises:
        NumericsError: if a run gives NaN or infinity.
    """
    tokens = padded_tokens(model, texts)
    parts = [
        _Batch(model, texts[examples], tokens[examples], attributed).read()
        for examples in batches(model, tokens, batch_size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _Places:
    """Entries of a batch: example, destination, source and weight of each; on the CPU, which has float64."""

    example: Int[Tensor, "entry"]
    query: Int[Tensor, "entry"]
    key: Int[Tensor, "entry"]
    weight: Float[Tensor, "entry"]

    @classmethod
    def of(cls, entries: Sequence[Entries]) -> "_Places":
        flat = [(example, *entry) for example, of_one in enumerate(entries) for entry in of_one]
        columns = zip(*flat, strict=True) if flat else ([], [], [], [])
        example, query, key, weight = (
            torch.tensor(list(column), dtype=dtype, device="cpu")
            for column, dtype in zip(columns, [torch.int64] * 3 + [torch.float64], strict=True)
        )
        return cls(example, query, key, weight)

    def among(self, first: int, n_queries: int) -> "_Places":
        """Those of a block of destinations, counted from its first."""
        here = (self.query >= first) & (self.query < first + n_queries)
        return _Places(self.example[here], self.query[here] - first, self.key[here], self.weight[here])


class _Batch:
    """One batch as it is read, layer by layer."""

    def __init__(
        self,
        model: ModelLike,
        texts: Sequence[BehaviourText],
        tokens: Int[Tensor, "batch pos"],
        attributed: bool,
    ) -> None:
        self._model, self._texts, self._tokens, self._attributed = model, texts, tokens, attributed
        self._places = {name: _Places.of([text.readings[name] for text in texts]) for name in texts[0].readings}
        n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
        self._sums = {
            name: torch.zeros(len(texts), n_layers, n_heads, dtype=torch.float64, device="cpu") for name in self._places
        }
        self._added: list[Tensor] = []
        self._reads = next_token_reads(model, self._columns()) if attributed else None
        self._weights = self._destination_weights()

    def read(self) -> Found:
        """Run the model once."""
        scale: dict[str, Tensor] = {}
        watched = watch_final_scale(self._model, scale) if self._attributed else {}
        n_layers, n_heads = self._model.cfg.n_layers, self._model.cfg.n_heads
        shape = (2, len(self._texts), n_layers, n_heads, self._tokens.shape[1] - 1)
        logits = torch.zeros(shape if self._attributed else (2, 0, 0, 0, 0), dtype=torch.float64, device="cpu")
        visit_attention(
            self._model,
            self._tokens,
            self._visitor(logits),
            with_values=self._attributed,
            by_queries=True,
            watched=watched,
        )
        found = dict(self._sums)
        if self._attributed:
            weights = self._weights / scale[FINAL_SCALE].cpu() if scale else self._weights
            both = (logits * weights[:, None, None]).sum(dim=-1)
            found[ATTRIBUTION], found[ATTRIBUTION_ANYWHERE] = both[0], both[1]
        if not all(bool(values.isfinite().all()) for values in found.values()):
            with measuring(self._model):
                require_finite_pass(self._model, self._tokens)
        return {name: self._without_nothing(name, values) for name, values in found.items()}

    def _visitor(self, logits: Float[Tensor, "kind batch layer head_index dest"]) -> Callable[[LayerAttention], None]:
        targets = self._places[TARGETS]

        def visit(attention: LayerAttention) -> None:
            pattern, first, layer = attention.pattern, attention.first_query, attention.layer
            for name, places in self._places.items():
                here = places.among(first, pattern.shape[2])
                values = pattern[here.example, :, here.query, here.key].cpu().double() * here.weight[:, None]
                self._sums[name][:, layer].index_add_(0, here.example, values)
            if self._reads is None:
                return
            added = unscaled_attribution(self._model, attention, self._reads)
            stop = first + added.shape[2]
            here = targets.among(first, added.shape[2])
            of_entries = added[here.example, :, here.query, here.key].cpu().double()
            of_targets = logits[0, :, layer, :, first:stop].transpose(1, 2)
            of_targets.index_put_((here.example, here.query), of_entries, accumulate=True)
            logits[1, :, layer, :, first:stop] = added.sum(dim=-1).cpu().double()

        return visit

    def _columns(self) -> Float[Tensor, "batch dest d_model"]:
        """What a head's output is multiplied with at each destination: the next token's column less its rivals'."""
        columns = unembedding_columns(self._model, self._tokens[:, 1:])
        for example, text in enumerate(self._texts):
            for query, rivals in text.rivals.items():
                columns[example, query] -= unembedding_columns(self._model, torch.tensor(rivals, device="cpu")).mean(
                    dim=0
                )
        return columns

    def _destination_weights(self) -> Float[Tensor, "batch dest"]:
        """One over the number of destinations, at each of them."""
        weights = torch.zeros(len(self._texts), self._tokens.shape[1] - 1, dtype=torch.float64, device="cpu")
        for example, text in enumerate(self._texts):
            places = list(text.destinations)
            weights[example, places] = 1 / max(1, len(places))
        return weights

    def _without_nothing(
        self, name: str, values: Float[Tensor, "batch layer head_index"]
    ) -> Float[Tensor, "batch layer head_index"]:
        """NaN for examples without an entry."""
        reading = name if name in self._places else TARGETS
        says_nothing = torch.tensor([not text.readings[reading] for text in self._texts], device="cpu")
        return values.masked_fill(says_nothing[:, None, None], torch.nan)

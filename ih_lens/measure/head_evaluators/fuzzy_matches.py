"""Fuzzy matches: attention to what followed the same word in another form, with or without space or capital."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.start_tokens import start_token
from ih_lens.data.word_forms import word_forms, word_of, words_in_other_forms
from ih_lens.measure.head_evaluators._places import PlacesEvaluator, Weights
from ih_lens.models.token_texts import token_texts
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class FuzzyMatchEvaluator(PlacesEvaluator):
    """Attention to what followed the same word in another form, less the mean of that to what followed other words.

    On `words_in_other_forms`: no token recurs there, so that a head that knows tokens only, not words, scores 0.
    Without a tokenizer it is not defined.

    Examples:
        >>> score_heads(load_model("gpt2"), evaluators=["fuzzy_match"]).top("fuzzy_match", 3)
    """

    name: ClassVar[str] = "fuzzy_match"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    definition: ClassVar[str] = (
        "attention to the token after an earlier occurrence of the present word as another token (other leading space "
        "or capitals), less the mean of that to the tokens after the other words that come back; mean over queries "
        "that have both, then over examples"
    )
    settings: ClassVar[tuple[str, ...]] = ("n_examples", "bos")
    needs: ClassVar[str] = "words must come back in another form, as in words_in_other_forms(model)"

    n_words: int = 25

    def fitted(self, model: ModelLike) -> "FuzzyMatchEvaluator":
        """With no more words than context and tokenizer have."""
        room = (model.cfg.n_ctx - (start_token(model, self.bos) is not None)) // 2
        return FuzzyMatchEvaluator(self.n_examples, self.bos, min(self.n_words, room, self._n_words(model)))

    def tokens(
        self,
        model: ModelLike,
        *,
        seed: int = 0,
        text: Int[Tensor, "text_example text_pos"] | None = None,  # noqa: ARG002
    ) -> Int[Tensor, "example pos"]:
        """Words, and again in other forms."""
        return words_in_other_forms(model, n_words=self.n_words, n_examples=self.n_examples, seed=seed, bos=self.bos)

    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:
        """1 after the same word in another form, -1 spread over what followed the other words that come back."""
        ids, numbers = tokens.unique(return_inverse=True)
        words = [word_of(text) for text in token_texts(model, ids)]
        of_id = torch.tensor(
            [-1 - place if word is None else words.index(word) for place, word in enumerate(words)], device="cpu"
        )
        present = of_id[numbers]
        same = (present[:, :, None] == present[:, None, :]) & (tokens[:, :, None] != tokens[:, None, :])
        n_pos = tokens.shape[1]
        followed = torch.zeros_like(same)
        followed[:, :, 1:] = (same & torch.ones(n_pos, n_pos, dtype=torch.bool, device="cpu").tril(-1))[:, :, :-1]
        targets = followed.tril()
        others = (targets.any(dim=1, keepdim=True) & ~targets).tril()
        has_both = targets.any(-1, keepdim=True) & others.any(-1, keepdim=True)
        spread = others / others.sum(-1, keepdim=True).clamp(min=1)
        return (targets.float() - spread) * has_both

    def _n_words(self, model: ModelLike) -> int:
        """How many words there are to draw from; without a tokenizer `tokens` will say what is missing."""
        return self.n_words if getattr(model, "tokenizer", None) is None else len(word_forms(model, self.bos))

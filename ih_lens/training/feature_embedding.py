"""Tokens that stand for points: their embeddings are a linear map of the points, which is what the model learns."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ih_lens.models.hooked_transformer import HookedTransformer


class FeatureEmbedding(nn.Module):
    """Makes W_E [d_vocab, d_model] out of a map of features, a bias, and one row for every token without features.

    Args:
        features: of the last tokens of the vocabulary, [token, d_feature].
    """

    def __init__(self, features: Float[Tensor, "token d_feature"]) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.d_feature = features.shape[1]

    def forward(self, learned: Float[Tensor, "row d_model"]) -> Float[Tensor, "d_vocab d_model"]:
        """Rows of `learned`: d_feature of the map, one of the bias, and the tokens without features."""
        features: Tensor = self.get_buffer("features")
        of_features = features @ learned[: self.d_feature] + learned[self.d_feature]
        return torch.cat([learned[self.d_feature + 1 :], of_features])


def embed_features(model: HookedTransformer, features: Float[Tensor, "token d_feature"], seed: int) -> None:
    """Let a model that is to be trained embed its last tokens through their features.

    The map begins with Gaussian entries of variance 1 / d_feature, so that embeddings have entries as large as the
    coordinates of the points (LeCun's initialisation); tokens without features keep the embeddings that they have.
    """
    W_E = model.embed.W_E
    n_plain, (d_feature, d_model) = len(W_E) - len(features), (features.shape[1], W_E.shape[1])
    generator = torch.Generator().manual_seed(seed)
    learned = torch.zeros(d_feature + 1 + n_plain, d_model, dtype=W_E.dtype, device="cpu")
    learned[:d_feature] = (
        torch.randn(d_feature, d_model, generator=generator, device="cpu").to(W_E.dtype) / d_feature**0.5
    )
    learned[d_feature + 1 :] = W_E.detach()[:n_plain].cpu()
    parametrize.register_parametrization(model.embed, "W_E", FeatureEmbedding(features.to(W_E)), unsafe=True)
    parametrized: Any = model.embed
    parametrized.parametrizations.W_E.original = nn.Parameter(learned.to(W_E.device))


def plain_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters as a model without features has them: those that are made, instead of what they are made from."""
    made = {
        f"{place}.{name}": getattr(module, name)
        for place, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations  # pyright: ignore[reportGeneralTypeIssues] a ModuleDict
    }
    yield from made.items()
    yield from ((name, parameter) for name, parameter in model.named_parameters() if ".parametrizations." not in name)

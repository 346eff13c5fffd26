"""Bridges whose configuration leaves out what the model that they wrap does give what its conversion gives."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

import ih_lens as ih
from tests.models.huggingface_models import save_huggingface

KINDS = {
    "bloom": "a norm behind the embedding",
    "gemma": "a scaled embedding",
    "gemma3": "norms after attention, sliding windows",
    "gpt2_inverse_layer": "scores scaled by layer",
    "gpt_neo": "local attention in every other layer",
    "mistral_sliding": "local attention in all layers",
    "olmo": "clipped values",
    "qwen3": "norms of queries and keys",
}


@pytest.fixture(params=KINDS, scope="module")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A bridge and the converted model."""
    folder = Path(tmp_path_factory.mktemp(request.param))
    save_huggingface(folder, request.param)
    return TransformerBridge.boot_transformers(str(folder), device="cpu"), ih.load_model(folder)


def measured(
    measure: Callable[[Any], dict[str, torch.Tensor]], model: Any
) -> tuple[dict[str, torch.Tensor], str | None]:
    """What a measure gives, or the reason why it gives nothing."""
    try:
        return measure(model), None
    except ih.CapabilityError as reason:
        return {}, str(reason)


def same(measure: Callable[[Any], dict[str, torch.Tensor]], both: tuple[Any, Any]) -> None:
    """Either refuses both for the same reason, or gives the same."""
    bridge, converted = both
    expected, reason = measured(measure, converted)
    found, refused = measured(measure, bridge)
    assert refused == reason
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], atol=3e-5, rtol=3e-5, equal_nan=True, msg=name)


def test_what_can_be_measured_is_the_same(both) -> None:
    bridge, converted = map(ih.capabilities, both)
    assert bridge.windows == converted.windows
    assert bridge.direct_path == converted.direct_path
    assert bridge.weight_measures == converted.weight_measures


def test_scores_are_the_same(both) -> None:
    def scores(model: Any) -> dict[str, torch.Tensor]:
        found = ih.score_heads(model, length=10, repeats=3)
        return {name: found.to_tensor(name) for name in found.names}

    same(scores, both)


def test_effective_weights_are_the_same(both) -> None:
    same(lambda model: asdict(ih.effective_weights(model)), both)


def test_terms_of_logits_are_the_same(both) -> None:
    tokens = torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(0))
    same(lambda model: asdict(ih.logit_terms(model, tokens)), both)


def test_skip_trigrams_have_the_same_attention_where_a_bridge_tells_its_scale(both) -> None:
    def attention(model: Any) -> dict[str, torch.Tensor]:
        table = ih.skip_trigrams(model, "L1H1", k=5)
        return {name: torch.tensor(table[name].to_numpy()) for name in ("attention", "logit")}

    if type(both[0].blocks[0].attn.original_component).__name__ in ("BloomAttention", "GPTNeoSelfAttention"):
        with pytest.raises(ih.CapabilityError, match=r"does not tell what its \w+ divides attention scores by"):
            attention(both[0])
    else:
        same(attention, both)

"""Half precision: close to float32 of the same weights, and never silently out of range."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model
from tests.models.bridges import tiny_bridge

HALF = (torch.bfloat16, torch.float16)
KINDS = ("attention_only", "with_mlps", "rotary", "rms_grouped", "local", "smeared")
TOLERANCE = {torch.bfloat16: 0.005, torch.float16: 0.001}
"""Of scores; about twice what the rounding of the activations between the parts of these models was seen to make."""
LOSS_TOLERANCE = {torch.bfloat16: 0.16, torch.float16: 0.02}
"""Of single losses in nats; the same."""


def pair(kind: str, dtype: torch.dtype, **changes: Any) -> tuple[Any, Any]:
    """A model in half precision, and float32 with the same weights: as drawn in float32, rounded.

    What torch draws in half precision itself depends on its version.
    """
    half, full = (tiny_model(kind, dtype=each, **changes) for each in (dtype, torch.float32))
    half.load_state_dict(full.state_dict())
    full.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    return half, full


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_close_to_float32_of_the_same_weights(kind: str, dtype: torch.dtype) -> None:
    half, full = pair(kind, dtype, initializer_range=0.4)
    tokens = ih.repeated_random_tokens(half, length=8, bos=0)
    for measure in (ih.prefix_matching_score, ih.previous_token_score, ih.copying_score):
        found, expected = measure(half, tokens), measure(full, tokens)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype], equal_nan=True)
    weights = ih.ov_copying_eigenvalue_score
    torch.testing.assert_close(weights(half), weights(full), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", HALF)
def test_losses_and_ablations_are_close_to_float32_of_the_same_weights(dtype: torch.dtype) -> None:
    half, full = pair("with_mlps", dtype, initializer_range=0.4)
    evals = ih.EvalSet.from_tokens(random_tokens(half, 4, 32))
    for measure in (ih.token_losses, ih.ablate_heads):
        found, expected = (measure(model, evals).random_token.to_numpy() for model in (half, full))
        assert str(found.dtype) == "float32"
        assert abs(found - expected).max() < LOSS_TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", HALF)
def test_large_logits_are_not_rounded_before_the_softmax(dtype: torch.dtype) -> None:
    half, full = pair("with_mlps", dtype, initializer_range=0.4)
    evals = ih.EvalSet.from_tokens(random_tokens(half, 4, 32))
    for model in (half, full):
        model.unembed.b_U.data = torch.full_like(model.unembed.b_U.data, -1000)  # changes no loss
    found, expected = (ih.token_losses(model, evals, keep="all").full.to_numpy() for model in (half, full))
    assert abs(found - expected).max() < LOSS_TOLERANCE[dtype]
    names = {"unembed.hook_out": 0}
    half.add_hook("unembed.hook_out", lambda logits, hook: names.update({hook.name: 1}))
    rounded = ih.token_losses(half, evals, keep="all").full.to_numpy()
    assert names["unembed.hook_out"] == 1  # whoever looks on sees the model's own logits
    assert abs(rounded - expected).max() > 4 * LOSS_TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", HALF)
def test_attention_is_normalised_in_float32(dtype: torch.dtype) -> None:
    from ih_lens.measure.attention import reduce_attention

    half, _ = pair("with_mlps", dtype)
    tokens = random_tokens(half, 4, 60)
    sums = reduce_attention(half, tokens, lambda attention, _: attention.pattern.sum(-1).sub(1).abs().amax(-1))
    assert sums.max() < 1e-6
    seen: list[torch.Tensor] = []
    half.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_pattern", lambda pattern, hook: seen.append(pattern))])
    assert seen[0].float().sum(-1).sub(1).abs().max() > 1e-4  # what TransformerLens shows is rounded


@pytest.mark.parametrize("dtype", HALF)
def test_looking_on_does_not_change_the_run(dtype: torch.dtype) -> None:
    from ih_lens.measure.attention import visit_attention

    half, _ = pair("with_mlps", dtype)
    tokens = random_tokens(half)
    seen: list[torch.Tensor] = []
    name = "blocks.1.hook_resid_post"

    def keep(residual: torch.Tensor, hook: Any) -> None:
        seen.append(residual)

    half.run_with_hooks(tokens, fwd_hooks=[(name, keep)])
    half.add_hook(name, keep)
    visit_attention(half, tokens, lambda attention: None)
    assert torch.equal(seen[0], seen[1])


# ---- out of range


def _mlp_overflow() -> Any:
    """In float16 the neurons of layer 0 are infinite, so that layer 1 sees NaN."""
    model = tiny_model("with_mlps", dtype=torch.float16)
    model.blocks[0].mlp.W_in.data[:, 3] = 3e4 * torch.sign(model.blocks[0].mlp.W_in.data[:, 3])
    return model


def _score_overflow() -> Any:
    """Queries and keys of L1H2 are finite in float16, and their products are not."""
    model = tiny_model("with_mlps", dtype=torch.float16)
    model.blocks[1].attn.b_Q.data[2] = 4e3
    model.blocks[1].attn.b_K.data[2] = 4e3
    return model


def _value_overflow() -> Any:
    """L1H3 gathers more than float16 holds: only what comes behind it sees that."""
    model = tiny_model("with_mlps", dtype=torch.float16)
    model.blocks[1].attn.b_V.data[3] = 6.5e4
    model.blocks[1].attn.W_V.data[3] = 2e4
    return model


def _last_norm_overflow() -> Any:
    model = tiny_model("with_mlps", dtype=torch.float16)
    model.ln_final.w.data[:] = 6e4
    return model


OVERFLOWS: dict[str, tuple[Callable[[], Any], str]] = {
    "mlp": (_mlp_overflow, r"layer 0, neurons of the MLP before their activation function"),
    "scores": (_score_overflow, r"layer 1, head 2: attention scores"),
    "values": (_value_overflow, r"layer 1, head 3: values"),
}
EVALUATORS: dict[str, Callable[[Any], Any]] = {
    "prefix_matching": lambda model: ih.prefix_matching_score(model, ih.repeated_random_tokens(model, length=8)),
    "previous_token": lambda model: ih.previous_token_score(model, random_tokens(model)),
    "copying": lambda model: ih.copying_score(model, ih.random_tokens(model, length=8)),
    "score_heads": lambda model: ih.score_heads(model, length=8),
}
LOSSES: dict[str, Callable[[Any], Any]] = {
    "token_losses": lambda model: ih.token_losses(model, ih.EvalSet.from_tokens(random_tokens(model))),
    "pattern_preserving": lambda model: ih.ablate_heads(model, ih.EvalSet.from_tokens(random_tokens(model))),
    "full": lambda model: ih.ablate_heads(model, ih.EvalSet.from_tokens(random_tokens(model)), kind="full"),
}
REMEDY = r"Numbers of float16 end at 6.55e\+04; load the model in float32"


@pytest.mark.parametrize("name", [*EVALUATORS, *LOSSES])
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_overflow_is_reported_with_layer_and_head(overflow: str, name: str) -> None:
    make, place = OVERFLOWS[overflow]
    if overflow == "values" and name in ("prefix_matching", "previous_token"):
        assert EVALUATORS[name](make()).isfinite().all()  # no pattern sees the last layer's values
        return
    model = make()
    with pytest.raises(ih.NumericsError, match=rf"{place} .* in example \d: NaN or infinity .*{REMEDY}"):
        (EVALUATORS | LOSSES)[name](model)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize("name", LOSSES)
def test_overflow_behind_the_layers_is_reported(name: str) -> None:
    with pytest.raises(ih.NumericsError, match=r"normalised final residual stream with its gain \(unembed.hook_in\)"):
        LOSSES[name](_last_norm_overflow())
    assert EVALUATORS["prefix_matching"](_last_norm_overflow()).isfinite().all()


def test_logits_that_float16_does_not_hold_are_computed_in_float32() -> None:
    half = tiny_model("with_mlps", dtype=torch.float16)
    half.unembed.W_U.data[:, 0] = 6e4
    assert LOSSES["token_losses"](half).by_context_index.notnull().all()
    assert half(random_tokens(half)).isinf().any()


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_the_same_weights_are_measured_in_float32(overflow: str) -> None:
    half = OVERFLOWS[overflow][0]()
    full = tiny_model("with_mlps", dtype=torch.float32)
    full.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    for measure in (EVALUATORS["prefix_matching"], EVALUATORS["copying"]):
        assert measure(full).isfinite().any()
    assert LOSSES["token_losses"](full).by_context_index.notnull().all()


@pytest.mark.parametrize("kind", ["attention_only", "rms_grouped"])
def test_float32_and_its_fused_pass_report_too(kind: str) -> None:
    model = tiny_model(kind, dtype=torch.float32)
    model.blocks[0].attn.W_O.data *= 1e38
    model.blocks[0].attn.get_parameter("W_Q").data *= 10
    for measure in (EVALUATORS["score_heads"], LOSSES["token_losses"]):
        with pytest.raises(ih.NumericsError, match=r"layer [01], .* load the model in float64"):
            measure(model)


def test_scores_that_are_not_defined_stay_nan() -> None:
    model = tiny_model("local", dtype=torch.bfloat16, window_size=4)
    model.blocks[0].attn.W_O.data[1] = 0  # raises nothing
    scores = ih.score_heads(model, length=8)
    assert scores.to_tensor("copying")[0, 1].isnan()
    assert scores.to_tensor("prefix_matching")[1].isnan().all()
    assert scores.to_tensor("prefix_matching")[0].isfinite().all()
    ablated = ih.ablate_heads(model, ih.EvalSet.from_tokens(random_tokens(model)), heads=["L0H1"])
    assert ablated.random_token[0, 1].notnull().all()
    assert ablated.random_token[1, 0].isnull().all()  # not asked for


def test_an_overflow_that_only_an_ablation_brings_names_the_heads() -> None:
    model = tiny_model("with_mlps", dtype=torch.float16)
    bias = torch.zeros_like(model.blocks[0].attn.b_O.data)
    bias[::2] = 2e4
    model.blocks[0].attn.b_O.data = bias
    model.blocks[0].attn.W_V.data[1] = 0
    model.blocks[0].attn.b_V.data[1] = 1
    model.blocks[0].attn.W_O.data[1] = -bias / 4  # L0H1 keeps the stream small
    model.blocks[0].mlp.W_out.data[:] = 0
    model.blocks[1].attn.b_O.data = bias * 2.5
    evals = ih.EvalSet.from_tokens(random_tokens(model))
    assert ih.token_losses(model, evals).by_context_index.notnull().all()
    with pytest.raises(ih.NumericsError, match="losses with L0H1 ablated: NaN or infinity"):
        ih.ablate_heads(model, evals, heads=["L0H0", "L0H1"])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_bridges_report_overflow_too(kind: str, tmp_path: Path) -> None:
    bridge: Any = tiny_bridge(kind, tmp_path)
    for block in bridge.blocks:
        getattr(block.mlp, "in").weight.data.sign_().mul_(3e38)
    evals = ih.EvalSet.from_tokens(random_tokens(bridge, 2, 12))
    place = r"layer 0, neurons of the MLP .*\(blocks.0.mlp.hook_(pre|post)\) in example 0: .* dtype=torch.float64"
    for measure in (ih.token_losses, lambda *given: ih.ablate_heads(*given, kind="full", heads=["L0H1"])):
        with pytest.raises(ih.NumericsError, match=place):
            measure(bridge, evals)

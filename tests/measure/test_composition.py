import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, tiny_model
from tests.measure.twins import processed
from tests.oracles.hand_built import INDUCTION, OFFSET_INDUCTION, PREVIOUS_TOKEN, TWO_BEFORE, induction_model

KINDS = ("k", "q", "v")


def dense_circuits(model, layer: int, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """W_QK and W_OV [d_model, d_model] of one head with LayerNorm's gain and centring written as matrices."""
    attention, d_model = model.blocks[layer].attn, model.cfg.d_model
    reads, writes = torch.eye(d_model, dtype=torch.float64), torch.eye(d_model, dtype=torch.float64)
    if model.cfg.normalization_type == "LN":
        reads, writes = reads - 1 / d_model, writes - 1 / d_model
    if model.cfg.normalization_type is not None:
        reads = reads @ model.blocks[layer].ln1.w.detach().diag()
    W_Q, W_K, W_V = (reads @ matrix[head].detach() for matrix in (attention.W_Q, attention.W_K, attention.W_V))
    return W_Q @ W_K.T, W_V @ attention.W_O[head].detach() @ writes


def dense_score(model, kind: str, later: tuple[int, int], earlier: tuple[int, int]) -> float:
    W_QK, W_OV = dense_circuits(model, *later)
    written = dense_circuits(model, *earlier)[1]
    reads = {"k": W_QK.T, "q": W_QK, "v": W_OV}[kind]
    return float((written @ reads).norm() / (written.norm() * reads.norm()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ZOO)
def test_scores_are_those_of_the_dense_matrices(name: str, kind: str) -> None:
    model = tiny_model(name)
    scores = ih.composition_scores(model, kind, n_draws=2)
    for later_layer, head, earlier_layer, earlier_head in np.ndindex(scores.shape):
        score = float(scores[later_layer, head, earlier_layer, earlier_head])
        if earlier_layer >= later_layer:
            assert np.isnan(score)
        else:
            expected = dense_score(model, kind, (later_layer, head), (earlier_layer, earlier_head))
            assert abs(score - expected) < 1e-9
            assert 0 <= score <= 1


def test_heads_wider_than_the_residual_stream() -> None:
    model = tiny_model("attention_only", d_head=24)
    for kind in KINDS:
        score = ih.composition_scores(model, kind, n_draws=2)[1, 2, 0, 3]
        assert abs(float(score) - dense_score(model, kind, (1, 2), (0, 3))) < 1e-9


@pytest.mark.parametrize("name", ["attention_only", "three_layers", "rotary", "rms_grouped", "parallel"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_however_the_weights_were_processed(name: str, kind: str) -> None:
    model = tiny_model(name)
    centres = {"center_writing_weights": True} if name != "rms_grouped" else {}
    expected = ih.composition_scores(model, kind, n_draws=2)
    for options in ({"fold_ln": True}, {"fold_value_biases": True, "center_unembed": True, "fold_ln": True, **centres}):
        changed = ih.composition_scores(processed(model, **options), kind, n_draws=2)
        np.testing.assert_allclose(changed, expected, rtol=0, atol=1e-5)


def test_the_previous_token_head_stands_out_below_the_induction_head() -> None:
    scores = ih.composition_scores(induction_model())
    above = (scores - scores.baseline_mean) / scores.baseline_std
    assert above[1, INDUCTION, 0].argmax("earlier_head") == PREVIOUS_TOKEN
    assert above[1, INDUCTION, 0, PREVIOUS_TOKEN] > 10
    assert scores[1, INDUCTION, 0, TWO_BEFORE] < 1e-12
    assert above[1, OFFSET_INDUCTION, 0].argmax("earlier_head") == TWO_BEFORE
    assert ih.composition_scores(induction_model(), "q")[1, INDUCTION, 0, PREVIOUS_TOKEN] < 1e-12


def test_heads_without_a_circuit_have_no_score() -> None:
    scores = ih.composition_scores(induction_model(), "v")
    writes_nothing = [head for head in range(4) if bool(scores[1, :, 0, head].isnull().all())]
    assert writes_nothing == [2, 3]
    model = tiny_model("attention_only")
    model.blocks[0].attn.W_O.data[1] = 1.3  # the same into all of the residual stream: LayerNorm removes it
    assert bool(ih.composition_scores(model)[1, :, 0, 1].isnull().all())
    assert int(ih.composition_scores(model)[1].sel(earlier_layer=0).isnull().sum()) == 4


def test_the_baseline_is_what_random_heads_score() -> None:
    model = tiny_model("attention_only", d_model=48, d_head=6, n_heads=8, n_layers=3)
    for block in model.blocks:
        block.ln1.w.data.fill_(1.0)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".attn.W_" in name:
            parameter.data.normal_(generator=generator)
    for kind in KINDS:
        scores = ih.composition_scores(model, kind, n_draws=200)
        found = scores.to_numpy()[np.isfinite(scores)]
        error = float(scores.baseline_std) * (1 / 200 + 1 / 20) ** 0.5  # scores that share a head are not independent
        assert abs(found.mean() - float(scores.baseline_mean)) < 4 * error
        assert 0.5 < found.std() / float(scores.baseline_std) < 2


def test_the_baseline_follows_the_seed_alone() -> None:
    first, again = (ih.composition_scores(tiny_model("rotary", seed=seed)) for seed in (0, 5))
    assert float(first.baseline_mean) == float(again.baseline_mean)
    other = ih.composition_scores(tiny_model("rotary"), seed=1)
    assert float(first.baseline_mean) != float(other.baseline_mean)
    np.testing.assert_array_equal(first, other)


def test_what_a_result_says_of_itself() -> None:
    scores = ih.composition_scores(tiny_model("smeared_rotary_grouped"), "q")
    assert scores.name == "q_composition"
    assert scores.dims == ("layer", "head", "earlier_layer", "earlier_head")
    assert scores.attrs["position"].startswith("left out")
    assert scores.attrs["positions"] == "rotary"
    assert scores.attrs["kind"] == "q"
    assert "W_Q W_K^T" in scores.attrs["definition"]


def test_one_layer_composes_with_nothing() -> None:
    assert bool(ih.composition_scores(tiny_model("one_layer")).isnull().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_less_precise_weights(dtype: torch.dtype) -> None:
    model = tiny_model("with_mlps", dtype=dtype)
    scores = ih.composition_scores(model)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, ih.composition_scores(model.to(torch.float64)), rtol=0, atol=1e-4)


def test_bad_input_is_explained() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="kind: expected one of k, q, v; got 'o'"):
        ih.composition_scores(model, "o")
    with pytest.raises(ih.InputError, match="n_draws: expected an integer of at least 2"):
        ih.composition_scores(model, n_draws=1)
    model.blocks[0].attn.W_V.data[0, 0, 0] = torch.nan
    with pytest.raises(ih.InputError, match="W_V hold NaN or infinity"):
        ih.composition_scores(model)


def test_weights_too_large_for_their_precision_are_named() -> None:
    model = tiny_model("attention_only").to(torch.float32)
    for name in ("W_V", "W_O"):
        getattr(model.blocks[0].attn, name).data *= 1e22
    with pytest.raises(ih.InputError, match=r"overflow float32.*float64"):
        ih.composition_scores(model)
    assert float(ih.composition_scores(model.to(torch.float64))[1, 0, 0, 0]) > 0

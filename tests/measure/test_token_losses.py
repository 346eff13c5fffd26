"""Per-token losses: at the right index, in every view, on every model, and nothing else changes."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ih_lens as ih
from ih_lens.measure import forward
from tests.helpers import ZOO, random_tokens, tiny_model


def _evals(model: Any, n_examples: int = 3, length: int = 12, seed: int = 0) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(random_tokens(model, n_examples, length), seed=seed)


def _one_by_one(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Every loss from a run of the model on nothing but the tokens before it, [example, n_pos - 1]."""
    losses = torch.zeros(len(tokens), tokens.shape[1] - 1, dtype=torch.float64)
    for example, row in enumerate(tokens):
        for index in range(1, len(row)):
            logits = model(row[None, :index])[0, -1].detach()
            losses[example, index - 1] = -logits.log_softmax(dim=-1)[row[index]]
    return losses


class OnlyWhole(nn.Module):
    """A model that can only be run from its tokens to its logits, as a bridge can."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner
        self.cfg = inner.cfg

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def run_with_hooks(self, tokens: torch.Tensor, **kwargs: Any) -> Any:
        return self.inner.run_with_hooks(tokens, **kwargs)

    def run_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.run_with_cache(*args, **kwargs)


@pytest.mark.parametrize("kind", ZOO)
def test_all_views_agree_with_one_prediction_at_a_time(kind: str) -> None:
    model = tiny_model(kind)
    evals = _evals(model)
    losses = ih.token_losses(model, evals, keep="all", at_indices=(7, 2), window=1)
    expected = _one_by_one(model, evals.tokens).numpy()
    np.testing.assert_allclose(losses.full, expected, atol=1e-9)
    np.testing.assert_allclose(losses.by_context_index, expected.mean(axis=0), atol=1e-9)
    of_random = [row[index - 1] for row, index in zip(expected, evals.random_index.tolist(), strict=True)]
    np.testing.assert_allclose(losses.random_token, of_random, atol=1e-9)
    around = np.stack([expected[:, 5:8].mean(axis=1), expected[:, 0:3].mean(axis=1)], axis=1)
    np.testing.assert_allclose(losses.at_indices, around, atol=1e-9)
    assert losses.at_indices.at_index.values.tolist() == [7, 2]


def test_a_surprise_shows_at_the_context_index_of_the_surprising_token() -> None:
    model = tiny_model("attention_only")
    for parameter in model.parameters():
        parameter.data.zero_()
    model.unembed.b_U.data[5] = 3.0  # predicts token 5, whatever comes before
    tokens = torch.full((2, 10), 5)
    tokens[:, 7] = 6
    losses = ih.token_losses(model, ih.EvalSet.from_tokens(tokens))
    rest = np.log(np.exp(3.0) + 39)
    assert losses.by_context_index.context_index.values.tolist() == list(range(1, 10))
    assert losses.by_context_index.sel(context_index=7).item() == pytest.approx(rest, abs=1e-12)
    others = losses.by_context_index.drop_sel(context_index=7)
    np.testing.assert_allclose(others, rest - 3.0, atol=1e-12)


@pytest.mark.parametrize(("length", "at_indices"), [(2, [1]), (3, [1, 2]), (48, [5, 47])])
def test_examples_may_be_short(length: int, at_indices: list[int]) -> None:
    model = tiny_model("attention_only")
    evals = _evals(model, length=length)
    losses = ih.token_losses(model, evals)
    assert losses.at_indices.at_index.values.tolist() == at_indices
    assert losses.by_context_index.shape == (length - 1,)
    full = _one_by_one(model, evals.tokens).numpy()
    np.testing.assert_allclose(losses.at_indices, full[:, [index - 1 for index in at_indices]], atol=1e-9)


def test_the_paper_s_two_indices_where_the_context_allows_them() -> None:
    model = tiny_model("one_layer", n_ctx=512)
    losses = ih.token_losses(model, _evals(model, n_examples=1, length=512))
    assert losses.at_indices.at_index.values.tolist() == [50, 500]


def test_a_window_ends_where_the_example_ends() -> None:
    model = tiny_model("one_layer")
    evals = _evals(model, length=6)
    losses = ih.token_losses(model, evals, keep="all", at_indices=(1, 5), window=2)
    np.testing.assert_allclose(losses.at_indices[:, 0], losses.full[:, :3].mean("context_index"), atol=1e-12)
    np.testing.assert_allclose(losses.at_indices[:, 1], losses.full[:, 2:].mean("context_index"), atol=1e-12)
    assert losses.attrs["window"] == 2


def test_views_do_not_hold_every_loss() -> None:
    model = tiny_model("one_layer")
    with pytest.raises(ih.InputError, match='keep="all"'):
        _ = ih.token_losses(model, _evals(model)).full


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_change_nothing(batch_size: int) -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model, n_examples=5)
    losses = ih.token_losses(model, evals, keep="all")
    again = ih.token_losses(model, evals, keep="all", batch_size=batch_size)
    for name, view in losses.dataset.items():
        np.testing.assert_allclose(again.dataset[name], view, atol=1e-12)


def test_logits_exist_for_a_few_positions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model)
    expected = ih.token_losses(model, evals).by_context_index
    monkeypatch.setattr(forward, "LOGITS_PER_CHUNK", 4 * model.cfg.d_vocab)
    at_once: list[int] = []
    with model.hooks([("ln_final.hook_normalized", lambda value, hook: at_once.append(value.shape[1]))]):
        np.testing.assert_allclose(ih.token_losses(model, evals).by_context_index, expected, atol=1e-12)
    assert max(at_once) == 4
    assert sum(at_once) == 3 * 11


def test_soft_capped_logits_are_capped() -> None:
    model = tiny_model("with_mlps", output_logits_soft_cap=0.5)
    evals = _evals(model)
    expected = _one_by_one(model, evals.tokens)
    np.testing.assert_allclose(ih.token_losses(model, evals, keep="all").full, expected, atol=1e-9)


def test_a_model_that_runs_only_whole_gives_the_same() -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model)
    whole = ih.token_losses(OnlyWhole(model), evals, keep="all")
    np.testing.assert_allclose(whole.full, ih.token_losses(model, evals, keep="all").full, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_losses_are_single_precision_at_least(dtype: torch.dtype) -> None:
    model = tiny_model("attention_only", dtype=dtype)
    evals = _evals(model)
    losses = ih.token_losses(model, evals, keep="all")
    logits = model(evals.tokens).detach().float()[:, :-1].log_softmax(dim=-1)
    expected = -logits.gather(-1, evals.tokens[:, 1:, None])[..., 0]
    assert losses.full.dtype == np.float32
    np.testing.assert_allclose(losses.full, expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-4)


def test_padding_on_the_left_is_masked_as_the_model_masks_it() -> None:
    model = tiny_model("with_mlps")

    class Tokenizer:
        padding_side, pad_token_id, bos_token_id = "left", 0, 1

    model.tokenizer = Tokenizer()
    tokens = random_tokens(model, 3, 12).clamp(min=2)
    tokens[0, :4] = 0
    expected = model(tokens, return_type="logits").detach()[:, :-1].log_softmax(dim=-1)
    expected = -expected.gather(-1, tokens[:, 1:, None])[..., 0]
    found = ih.token_losses(model, ih.EvalSet.from_tokens(tokens), keep="all")
    np.testing.assert_allclose(found.full, expected, atol=1e-9)


def test_the_user_s_hooks_take_effect_and_stay() -> None:
    model = tiny_model("attention_only")
    evals = _evals(model)
    plain = ih.token_losses(model, evals).by_context_index
    model.add_hook("blocks.1.attn.hook_z", lambda z, hook: z * 0)
    hooked = ih.token_losses(model, evals).by_context_index
    assert float(abs(hooked - plain).max()) > 1e-3
    assert len(model.blocks[1].attn.hook_z.fwd_hooks) == 1


def test_hooks_of_pytorch_take_effect_too() -> None:
    model = tiny_model("attention_only")
    evals = _evals(model)
    plain = ih.token_losses(model, evals).by_context_index
    handle = model.blocks[1].attn.register_forward_hook(lambda module, inputs, output: output * 0)
    hooked = ih.token_losses(model, evals).by_context_index
    handle.remove()
    assert float(abs(hooked - plain).max()) > 1e-3
    np.testing.assert_array_equal(ih.token_losses(model, evals).by_context_index, plain)


def test_the_model_and_global_state_are_left_as_they_were() -> None:
    model = tiny_model("alibi")
    model.train()
    model.blocks[0].eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    losses = ih.token_losses(model, _evals(model))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
    assert model.training
    assert model.blocks[1].training
    assert not model.blocks[0].training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model(random_tokens(model), return_type="loss").backward()  # nothing made while measuring stands in its way
    assert np.isfinite(losses.by_context_index).all()


def test_provenance() -> None:
    model = tiny_model("smeared")
    evals = _evals(model, seed=4)
    attrs = ih.token_losses(model, evals).attrs
    assert attrs["fingerprint"] == evals.fingerprint
    assert attrs["unit"] == "nats"
    assert (attrs["index_base"], attrs["window"], attrs["eval_seed"]) == (0, 0, 4)
    assert attrs["dtype"] == "float64"
    random_index = ih.token_losses(model, evals).random_token.random_index
    assert random_index.values.tolist() == evals.random_index.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "everything"}, "keep: expected one of views, all"),
        ({"at_indices": (0, 5)}, "context index 0: expected 1..11"),
        ({"at_indices": (5, 12)}, "context index 12"),
        ({"window": -1}, "window: expected an integer of at least 0"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    model = tiny_model("one_layer")
    with pytest.raises(ih.InputError, match=re.escape(message)):
        ih.token_losses(model, _evals(model), **arguments)


def test_examples_that_the_model_cannot_read() -> None:
    model = tiny_model("one_layer")
    with pytest.raises(ih.InputError, match="id 40 lies outside the vocabulary of 40"):
        ih.token_losses(model, ih.EvalSet.from_tokens(torch.tensor([[1, 40, 2]])))
    with pytest.raises(ih.InputError, match="65 tokens do not fit the model's context of 64"):
        ih.token_losses(model, ih.EvalSet.from_tokens(torch.zeros(1, 65, dtype=torch.long)))


def test_damaged_weights() -> None:
    model = tiny_model("one_layer")
    model.blocks[0].attn.W_K.data[0, 0, 0] = torch.nan
    with pytest.raises(ih.InputError, match=r"blocks\.0\.attn\.W_K hold NaN"):
        ih.token_losses(model, _evals(model))


def test_models_that_see_later_tokens_are_refused() -> None:
    model = tiny_model("one_layer", attention_dir="bidirectional")
    with pytest.raises(ih.CapabilityError, match="does not predict each token from the tokens before it"):
        ih.token_losses(model, _evals(model))

"""What every behaviour in the table must hold, on the texts that come with the project."""

import json

import numpy as np
import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from ih_lens.measure.behaviours._base import TARGETS
from tests.data import tokenizers
from tests.helpers import tiny_model

every_behaviour = pytest.mark.parametrize("name", ih.BEHAVIOURS)


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    """A model with a byte-level tokenizer, random weights and a context that all examples fit."""
    made = tiny_model("with_mlps", d_vocab=500, n_ctx=320)
    made.tokenizer = tokenizers.byte_level()
    return made


def scored(model: HookedTransformer, name: str, **options: object) -> ih.HeadScores:
    return ih.score_behaviours(model, behaviours=[name], progress=False, **options)


@every_behaviour
def test_its_name_is_that_of_the_table(name: str) -> None:
    assert ih.BEHAVIOURS[name].name == name


@every_behaviour
def test_every_measure_says_what_it_is_and_keeps_to_its_range(model: HookedTransformer, name: str) -> None:
    scores = scored(model, name)
    assert {name, f"{name}_baseline", f"{name}_excess", f"{name}_attribution"} <= set(scores.names)
    for measure in scores.names:
        values, about = scores[measure].to_numpy(), scores[measure].attrs
        assert values.shape == (2, 4)
        assert np.isfinite(values).all() or "undefined" in about, measure
        assert len(about["definition"]) > 20
        if "range" in about:
            low, high = json.loads(about["range"])
            assert (values >= low - 1e-9).all(), measure
            assert (values <= high + 1e-9).all(), measure
        else:
            assert about["unit"] == "logits"


@every_behaviour
def test_the_same_seed_gives_the_same_whatever_the_batches_and_the_random_state(
    model: HookedTransformer, name: str
) -> None:
    first = scored(model, name)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 the global state is what must not matter
    before = torch.get_rng_state()
    again = scored(model, name, batch_size=3)
    assert torch.equal(torch.get_rng_state(), before)
    for measure in first.names:
        np.testing.assert_allclose(first[measure], again[measure], atol=1e-9)


@every_behaviour
def test_targets_come_before_their_destinations_and_controls_have_as_many(model: HookedTransformer, name: str) -> None:
    made = ih.BEHAVIOURS[name].texts(model)
    assert len(made.texts) == len(made.controls) > 1
    for text, control in zip(made.texts, made.controls, strict=True):
        assert len(text.ids) <= model.cfg.n_ctx
        for entries in text.readings.values():
            assert all(0 <= key <= query < len(text.ids) - 1 for query, key, _ in entries)
        assert all(0 <= key <= query < len(control.ids) - 1 for query, key, _ in control.readings[TARGETS])
        assert [len(keys) for keys in control.targets.values()] == [len(keys) for keys in text.targets.values()]
        answers = [text.ids[query + 1] for query in text.destinations]
        assert answers == [control.ids[query + 1] for query in control.destinations]
        assert text.ids != control.ids


@every_behaviour
def test_random_weights_are_not_above_the_baseline(name: str) -> None:
    model = tiny_model("attention_only", d_vocab=500, n_ctx=320, initializer_range=0.02)
    model.tokenizer = tokenizers.byte_level()
    scores = scored(model, name)
    excess, stderr = scores[f"{name}_excess"].to_numpy(), scores.stderr(f"{name}_excess").to_numpy()
    assert (excess < 0.01 + 4 * stderr).all()

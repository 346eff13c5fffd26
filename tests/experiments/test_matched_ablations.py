from itertools import combinations

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model


def _model() -> torch.nn.Module:
    return tiny_model("attention_only", n_layers=3)  # 3 layers of 4 heads


def _evals(model) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(random_tokens(model, n_examples=12))


@pytest.mark.parametrize("on", ["loss", "in_context_learning"])
@pytest.mark.parametrize("match", ["layer", "norm"])
def test_effects_are_those_of_ablating_by_hand(on: str, match: str) -> None:
    model = _model()
    evals, losses = _evals(model), ih.token_losses(model, _evals(model))
    indices = {"early": 2, "late": 19}
    settings = {} if on == "loss" else indices
    matched = ih.matched_ablations(model, evals, [["L0H1", "L2H0"], "L1H3"], match=match, n_draws=4, on=on, **settings)
    assert matched.effect.value["group"].values.tolist() == ["L0H1+L2H0", "L1H3"]
    losses = ih.token_losses(model, evals, at_indices=(2, 19))
    for group in range(2):
        names = [matched.null["drawn"].values[group, 0], matched.effect.value["group"].values[group]]
        for name, found in zip(names, (matched.null[group, 0], matched.effect.value[group]), strict=True):
            ablated = ih.ablate_heads(model, evals, heads=[name.split("+")], at_indices=(2, 19))
            if on == "loss":
                expected = float((ablated.random_token - losses.random_token).mean())
            else:
                expected = float(ih.attribution_to_in_context_learning(ablated, losses, **indices)[0])
            assert float(found) == pytest.approx(expected, abs=1e-9)
    assert matched.p_value().dims == ("group",)
    assert matched.confidence_interval().dims == ("group", "bound")
    assert (matched.stderr > 0).all()


def test_random_groups_match_by_layer() -> None:
    model = _model()
    matched = ih.matched_ablations(model, _evals(model), [["L0H1", "L2H0", "L2H2"]], n_draws=9, seed=3)
    drawn = [tuple(map(ih.HeadIndex.parse, name.split("+"))) for name in matched.null["drawn"].values[0] if name]
    for heads in drawn:
        assert [head.layer for head in heads] == [0, 2, 2]
        assert not set(heads) & {(0, 1), (2, 0), (2, 2)}
    assert len(drawn) == 3  # the other two heads of layer 2, and one of three heads of layer 0
    assert len(set(drawn)) == 3


def test_all_other_heads_are_drawn_where_they_are_few() -> None:
    model = _model()
    matched = ih.matched_ablations(model, _evals(model), ["L1H1", ["L0H0", "L0H2"]], n_draws=50)
    assert set(matched.null["drawn"].values[0]) - {""} == {"L1H0", "L1H2", "L1H3"}
    assert set(matched.null["drawn"].values[1]) - {""} == {"L0H1+L0H3"}
    singles = ih.ablation_effects(ih.ablate_heads(model, _evals(model)), ih.token_losses(model, _evals(model)))
    others = [float(singles.value[1, head]) for head in (0, 2, 3)]
    for alternative, reach in (("greater", np.greater_equal), ("less", np.less_equal)):
        expected = (1 + sum(reach(other, float(singles.value[1, 1])) for other in others)) / 4
        assert float(matched.p_value(alternative=alternative)[0]) == expected
    assert float(matched.p_value(0.0)[0]) == pytest.approx(float(singles.p_value(0.0)[1, 1]))


def test_random_groups_match_by_how_much_they_write() -> None:
    model = _model()
    for layer, head, factor in [(0, 0, 30.0), (1, 2, 30.0), (2, 1, 30.0), (0, 3, 30.0)]:
        model.blocks[layer].attn.W_O.data[head] *= factor
    loud = {(0, 0), (1, 2), (2, 1), (0, 3)}
    evals = _evals(model)
    matched = ih.matched_ablations(model, evals, ["L0H0", ["L0H0", "L1H2"]], match="norm", n_nearest=2, n_draws=30)
    drawn = [[set(map(ih.HeadIndex.parse, n.split("+"))) for n in names if n] for names in matched.null["drawn"].values]
    assert len(drawn[0]) == 2
    assert all(heads <= loud - {(0, 0)} for heads in drawn[0])
    assert drawn[1][0] <= loud - {(0, 0), (1, 2)} or len(drawn[1]) > 1
    for heads in drawn[1]:
        assert len(heads) == 2
        assert not heads & {(0, 0), (1, 2)}
        assert heads & loud
    assert matched.norms is not None
    torch.testing.assert_close(torch.as_tensor(matched.norms.to_numpy()).float(), ih.head_output_norms(model, evals))


def test_random_heads_are_no_exception() -> None:
    """Each head against the others of its layer: ranks among them, so p-values are evenly spread."""
    model = tiny_model("attention_only", n_layers=1, n_heads=16)
    heads = [f"L0H{head}" for head in range(16)]
    matched = ih.matched_ablations(model, _evals(model), heads, n_draws=15)
    found = np.sort(matched.p_value(alternative="greater").to_numpy())
    np.testing.assert_allclose(found, np.arange(1, 17) / 16)


def test_draws_depend_on_the_seed_alone() -> None:
    model = tiny_model("attention_only", n_layers=1, n_heads=16)
    settings = {"heads": [["L0H1", "L0H2", "L0H3"]], "n_draws": 6}
    one, same, other = (ih.matched_ablations(model, _evals(model), seed=seed, **settings) for seed in (0, 0, 1))
    assert one.null.identical(same.null)
    assert one.null["drawn"].values.tolist() != other.null["drawn"].values.tolist()
    assert len({*one.null["drawn"].values[0]}) == 6
    possible = {"+".join(f"L0H{head}" for head in heads) for heads in combinations([0, *range(4, 16)], 3)}
    assert set(one.null["drawn"].values[0]) <= possible


def test_what_cannot_be_matched_is_explained() -> None:
    model = _model()
    evals = _evals(model)
    with pytest.raises(ih.InputError, match=r"L0H0\+L0H1\+L0H2: 3 heads of layer 0 are to be matched, and 1 others"):
        ih.matched_ablations(model, evals, [["L0H0", "L0H1", "L0H2"]])
    many = [f"L{layer}H{head}" for layer in range(3) for head in range(3)]
    with pytest.raises(ih.InputError, match="9 heads are to be matched, and 3 others are left in the model"):
        ih.matched_ablations(model, evals, [many], match="norm")
    with pytest.raises(ih.InputError, match="match: expected one of layer, norm"):
        ih.matched_ablations(model, evals, ["L0H0"], match="type")
    with pytest.raises(ih.InputError, match="on: expected one of loss, in_context_learning"):
        ih.matched_ablations(model, evals, ["L0H0"], on="before_and_after")

import pytest
import torch

import ih_lens as ih
from tests.clamping.twins import induction_keys
from tests.experiments.twins import loss_with_hooks, pattern_of_head, to_previous, without_anti_copying, zeroed
from tests.helpers import random_tokens, tiny_model
from tests.oracles.hand_built import INDUCTION, PREVIOUS_TOKEN, UNIFORM


def _exact(tokens: torch.Tensor, n_prefix: int):
    """Attention to all matches, or to the start token where there is none."""

    def make(pattern: torch.Tensor) -> torch.Tensor:
        held = torch.zeros_like(pattern)
        for example, ids in enumerate(tokens.tolist()):
            for query in range(len(ids)):
                keys = induction_keys(ids, query, 0, n_prefix) or [0]
                held[example, query, keys] = 1 / len(keys)
        return held

    return make


@pytest.mark.parametrize("kind", ["attention_only", "rotary"])
def test_patterns_are_the_exact_rules(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, 4, 16) % 5
    evals = ih.EvalSet.from_tokens(tokens)
    found = ih.idealised_patterns(model, evals, "L1H2").set_index("pattern")
    hooks = {
        "natural": [],
        "ablated": [zeroed(1, [2])],
        "previous token": [pattern_of_head(1, 2, to_previous)],
        "[A][B]...[A]": [pattern_of_head(1, 2, _exact(tokens, 1))],
        "[A][B][C]...[A][B]": [pattern_of_head(1, 2, _exact(tokens, 2))],
    }
    assert found.index.tolist() == list(hooks)
    losses = {name: loss_with_hooks(model, tokens, chosen) for name, chosen in hooks.items()}
    for name, loss in losses.items():
        assert found.loc[name, "loss"] == pytest.approx(loss, abs=1e-9), name
        share = (losses["ablated"] - loss) / (losses["ablated"] - losses["natural"])
        assert found.loc[name, "recovered"] == pytest.approx(share, abs=1e-6)
    assert found.loc["natural", "recovered"] == 1
    assert found.loc["ablated", "recovered"] == 0


def _periodic() -> tuple:
    model = without_anti_copying()
    tokens = ih.repeated_random_tokens(model, length=8, repeats=4, n_examples=8)
    return model, ih.EvalSet.from_tokens(tokens)


def test_the_exact_rule_is_what_a_hand_built_induction_head_does() -> None:
    model, evals = _periodic()
    found = ih.idealised_patterns(model, evals, (1, INDUCTION)).set_index("pattern")["recovered"]
    # queries without a match have nowhere to look: the head spreads its attention, the rule looks at the start
    assert found["[A][B]...[A]"] == pytest.approx(1, abs=0.1)
    assert found["[A][B][C]...[A][B]"] == pytest.approx(found["[A][B]...[A]"], abs=0.2)
    assert found["previous token"] < 0.2
    natural, held = (ih.token_losses(model, evals, keep="all").full.values for _ in range(2))
    with ih.clamp(model, ih.InductionTarget((1, INDUCTION))):
        held = ih.token_losses(model, evals, keep="all").full.values
    assert held == pytest.approx(natural, abs=1e-6)  # where there is no match it keeps its own pattern


def test_a_hand_built_previous_token_head_is_recovered_by_its_rule_alone() -> None:
    model, evals = _periodic()
    found = ih.idealised_patterns(model, evals, (0, PREVIOUS_TOKEN)).set_index("pattern")["recovered"]
    assert found["previous token"] == pytest.approx(1, abs=1e-6)
    assert found["[A][B]...[A]"] < 0.5


def test_heads_that_attend_to_everything_are_not_recovered() -> None:
    model, evals = _periodic()
    found = ih.idealised_patterns(model, evals, (1, UNIFORM)).set_index("pattern")
    assert abs(found.loc["[A][B]...[A]", "recovered"] - 1) > 0.3

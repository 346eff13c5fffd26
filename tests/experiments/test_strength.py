import pytest

import ih_lens as ih
from tests.experiments.twins import loss_with_hooks, pattern_of_head, to_previous
from tests.helpers import random_tokens, tiny_model


def test_strengths_lie_between_the_natural_and_the_held_pattern() -> None:
    model = tiny_model("attention_only")
    evals = ih.EvalSet.from_tokens(random_tokens(model, 4, 12))
    conditions = ih.strength_conditions(ih.PreviousToken("L0H1"))
    found = ih.losses_under(model, evals, conditions)
    assert found["condition"].tolist() == [f"strength {value}" for value in ("0", "0.25", "0.5", "0.75", "1")]
    for share, loss in zip((0, 0.25, 0.5, 0.75, 1), found["loss"], strict=True):
        mixed = pattern_of_head(0, 1, lambda pattern, s=share: (1 - s) * pattern + s * to_previous(pattern))
        assert loss == pytest.approx(loss_with_hooks(model, evals.tokens, [mixed]), abs=1e-9)
    assert found["loss"].nunique() == 5


def test_other_numbers_can_be_swept() -> None:
    entry = ih.LabelMatch("L1H0", rows=(4,))
    assert ih.strength_conditions(entry, (0.5, 1.0), parameter="correct") == {
        "correct 0.5": [ih.LabelMatch("L1H0", rows=(4,), correct=0.5)],
        "correct 1": [entry],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameter": "gain"}, "PreviousToken has no 'gain'; it has strength, gradient, during, heads, rows"),
        ({"values": ()}, "values: expected different numbers, at least one"),
        ({"values": (0.5, 0.5)}, "values: expected different numbers"),
        ({"values": (1.5,)}, "strength: expected a number from 0 to 1"),
    ],
)
def test_mistakes_are_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ih.InputError, match=message):
        ih.strength_conditions(ih.PreviousToken("L0H1"), **arguments)

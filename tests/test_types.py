import pytest
import torch

from ih_lens import validate
from ih_lens.errors import InputError
from ih_lens.types import HeadIndex


@pytest.mark.parametrize("spelling", ["L1H4", "l1h4", "1.4", " 1.4 ", (1, 4), HeadIndex(1, 4)])
def test_every_spelling_of_a_head_means_the_same(spelling: object) -> None:
    assert HeadIndex.parse(spelling) == (1, 4)  # type: ignore[arg-type]
    assert str(HeadIndex(1, 4)) == "L1H4"


@pytest.mark.parametrize(
    "spelling", ["", "1", "L1", "H4", "1,4", "-1.4", (1,), (1, 2, 3), (1, -4), (1.0, 4), ("1", "4")]
)
def test_other_spellings_are_refused(spelling: object) -> None:
    with pytest.raises(InputError, match="expected a head as"):
        HeadIndex.parse(spelling)  # type: ignore[arg-type]


def test_heads_must_exist() -> None:
    with pytest.raises(InputError, match=r"head L2H0 does not exist: the model has layers 0\.\.1"):
        validate.head_index("L2H0", 2, 4)
    assert validate.head_groups(["0.1", (1, 2), ["1.0", "1.1"]], 2, 4) == [((0, 1),), ((1, 2),), ((1, 0), (1, 1))]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ("L0H0", "expected a list"),
        ([], "at least one head"),
        ([[]], "at least one head"),
        ([["0.0", "0.0"]], "none twice"),
    ],
)
def test_bad_groups_are_refused(heads: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate.head_groups(heads, 2, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), r"integer tensor \[example, pos\], got \(5,\)"),
        (torch.zeros(2, 5), "torch.float32"),
        (torch.zeros(0, 5, dtype=torch.int64), "at least 1 example"),
        (torch.zeros(2, 9, dtype=torch.int64), "do not fit the model's context of 8"),
        (torch.full((2, 5), 10), "id 10 lies outside the vocabulary of 10"),
        (torch.full((2, 5), -1), "id -1 lies outside"),
    ],
)
def test_bad_tokens_are_refused(tokens: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate.token_batch(tokens, d_vocab=10, n_ctx=8)  # type: ignore[arg-type]


def test_context_indices_label_predicted_tokens() -> None:
    assert validate.context_indices([1, 7], 8) == [1, 7]
    for outside in (0, 8, -1, True):
        with pytest.raises(InputError, match=r"expected 1\.\.7"):
            validate.context_indices([outside], 8)


def test_default_context_indices_scale_with_the_context() -> None:
    assert validate.default_context_indices(512) == (50, 500)
    assert validate.default_context_indices(501) == (50, 500)
    assert validate.default_context_indices(48) == (5, 47)
    with pytest.raises(InputError, match="too short"):
        validate.default_context_indices(2)


def test_non_finite_weights_are_named() -> None:
    layer = torch.nn.Linear(2, 2)
    validate.finite_weights(layer)
    with torch.no_grad():
        layer.bias[1] = float("nan")
    with pytest.raises(InputError, match="weights bias hold NaN"):
        validate.finite_weights(layer)

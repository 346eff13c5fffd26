"""Tokens that a copy of what came after an earlier occurrence would get right, against a search by hand."""

import pytest
import torch

import ih_lens as ih
from ih_lens.data.predictable_tokens import OCCURRENCES, TOKEN_CLASSES


def slow_class(tokens: list[int], index: int, n: int, occurrence: str) -> str:
    """Looks through all earlier positions for the last n tokens."""
    before = tokens[index - n : index]
    followers = [tokens[end] for end in range(n, index) if tokens[end - n : end] == before] if index >= n else []
    if not followers:
        return "unmatched"
    right = tokens[index] in followers if occurrence == "any" else tokens[index] == followers[-1]
    return "predictable" if right else "mispredicted"


@pytest.mark.parametrize("occurrence", OCCURRENCES)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("n_symbols", [2, 5, 20])
def test_classes_are_those_of_a_search_through_all_positions(n: int, occurrence: str, n_symbols: int) -> None:
    tokens = torch.randint(0, n_symbols, (6, 40), generator=torch.Generator().manual_seed(n))
    found = ih.token_classes(tokens * 1000, n=n, occurrence=occurrence)
    assert tuple(found) == TOKEN_CLASSES
    for example, row in enumerate(tokens.tolist()):
        for index in range(1, len(row)):
            expected = slow_class(row, index, n, occurrence)
            assert [name for name in found if found[name][example, index]] == [expected]
    assert not any(mask[:, 0].any() for mask in found.values())
    assert torch.equal(ih.predictable_tokens(tokens, n=n, occurrence=occurrence), found["predictable"])


def test_agrees_with_what_the_task_says_of_itself() -> None:
    task = ih.RestartCycle(n_symbols=20)
    tokens = task.held_out(50)
    assert torch.equal(ih.predictable_tokens(tokens), task.predictable(tokens))


def test_a_repeated_segment_is_predictable_from_its_second_token_on() -> None:
    tokens = torch.arange(10).repeat(1, 3)
    assert ih.predictable_tokens(tokens, n=1)[0].nonzero()[0].item() == 11
    assert ih.predictable_tokens(tokens, n=4)[0].nonzero()[0].item() == 14
    assert bool(ih.predictable_tokens(tokens, occurrence="nearest")[0, 11:].all())


def test_nearest_and_any_differ_where_the_latest_occurrence_misleads() -> None:
    tokens = torch.tensor([[1, 2, 1, 3, 1, 2]])
    assert ih.predictable_tokens(tokens)[0, 5].item()
    assert ih.token_classes(tokens, occurrence="nearest")["mispredicted"][0, 5].item()


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(ih.InputError, match="occurrence: expected one of any, nearest"):
        ih.predictable_tokens(torch.zeros(1, 4, dtype=torch.long), occurrence="first")
    with pytest.raises(ih.InputError, match="n: expected an integer of at least 1"):
        ih.predictable_tokens(torch.zeros(1, 4, dtype=torch.long), n=0)
    with pytest.raises(ih.InputError, match="integer"):
        ih.predictable_tokens(torch.zeros(1, 4))

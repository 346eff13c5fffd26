"""Loops at the end of sequences, against sequences whose loops were written by hand."""

import numpy as np
import pytest
import torch

import ih_lens as ih


def slow_loop(tokens: list[int], min_repeats: int, min_length: int) -> tuple[int, int]:
    """Longest end of the sequence that repeats itself, and its period, by trying all."""
    best = (0, 0)
    for period in range(1, len(tokens) // min_repeats + 1):
        for start in range(len(tokens)):
            end = tokens[start:]
            if len(end) < max(period * min_repeats, min_length):
                break
            if all(one == other for one, other in zip(end, end[period:], strict=False)):
                if len(end) > best[0]:
                    best = (len(end), period)
                break
    return best


@pytest.mark.parametrize("min_repeats", [2, 3, 5])
def test_loops_are_those_of_a_search_through_all_ends(min_repeats: int) -> None:
    generator = torch.Generator().manual_seed(min_repeats)
    rows: list[torch.Tensor] = []
    for period in (1, 2, 3, 5, 7):
        for lead in (0, 3, 11):
            cycle = torch.randint(0, 4, (period,), generator=generator)
            rows.append(torch.cat([torch.randint(0, 4, (lead,), generator=generator), cycle.repeat(30)])[:30])
    tokens = torch.stack([*rows, torch.randint(0, 2, (30,), generator=generator), torch.arange(30)])
    found = ih.repetition(tokens, min_repeats=min_repeats)
    for example, row in enumerate(tokens.tolist()):
        length, period = slow_loop(row, min_repeats, 4)
        assert found["period"][example].item() == period
        assert found["in_loop"][example].item() == pytest.approx(length / 30)
        waited = found["time_to_loop"][example].item()
        assert np.isnan(waited) if length == 0 else waited == 30 - length


def test_a_known_loop() -> None:
    found = ih.repetition(torch.tensor([[7, 8, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1]]))
    assert found["period"].item() == 3
    assert found["time_to_loop"].item() == 2
    assert found["in_loop"].item() == pytest.approx(10 / 12)


def test_distinct_counts_different_runs() -> None:
    found = ih.repetition(torch.tensor([[1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]]))["distinct"]
    assert found.sel(n=1).to_numpy().tolist() == pytest.approx([1 / 6, 1])
    assert found.sel(n=2).to_numpy().tolist() == pytest.approx([1 / 5, 1])
    assert np.isnan(ih.repetition(torch.tensor([[1, 2]]))["distinct"].sel(n=3)).all()


def test_neither_a_chance_pair_nor_a_cycle_that_is_too_long_is_a_loop() -> None:
    assert ih.repetition(torch.tensor([[4, 5, 6, 7, 1, 1, 1]]))["in_loop"].item() == 0
    cycle = torch.arange(5).repeat(1, 4)
    assert ih.repetition(cycle)["period"].item() == 5
    assert ih.repetition(cycle, max_period=4)["period"].item() == 0
    with pytest.raises(ih.InputError, match="min_repeats: expected an integer of at least 2"):
        ih.repetition(cycle, min_repeats=1)

import itertools
import json
import math
import time

import pytest
import torch

import ih_lens as ih
from ih_lens.data.corpus import Corpus


def test_every_slice_of_the_order_gives_the_same_examples():
    corpus = ih.RestartCycle(n_symbols=11, period=4, length=9)  # 20 words each: slices start anywhere in a block of 4
    together = corpus.examples(0, 40, data_seed=3)
    single = torch.cat([corpus.examples(i, i + 1, data_seed=3) for i in range(40)])
    assert torch.equal(together, single)
    odd = ih.RestartCycle(n_symbols=11, period=4, length=10)
    assert torch.equal(odd.examples(0, 40, data_seed=3)[7:29], odd.examples(7, 29, data_seed=3))


def test_the_examples_stay_what_they_are():
    expected = [11, 20, 17, 9, 1, 25, 2, 11, 20, 17, 9, 21]
    assert ih.RestartCycle().examples(0, 1, data_seed=0)[0, :12].tolist() == expected


def test_seeds_and_the_held_out_stream_differ():
    corpus = ih.RestartCycle()
    first, second = corpus.examples(0, 8, data_seed=0), corpus.examples(0, 8, data_seed=1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, corpus.held_out(8))
    assert torch.equal(corpus.held_out(8)[:3], corpus.held_out(3))
    assert corpus.held_out(0).shape == (0, 48)


def test_each_sequence_has_its_own_cycle_with_restarts_at_the_stated_rate():
    corpus = ih.RestartCycle()
    tokens = corpus.examples(0, 2000, data_seed=5)
    assert tokens.min() == 0
    assert tokens.max() == 31
    successors, n_steps, cycles = 0, 0, set()
    for row in tokens[:500].tolist():
        assert len(set(row)) <= 12
        counted: dict[int, list[int]] = {}
        for here, following in itertools.pairwise(row):
            counted.setdefault(here, []).append(following)
        likeliest = {here: max(set(after), key=after.count) for here, after in counted.items() if len(after) > 3}
        cycles.add(tuple(sorted(likeliest.items())))
        for here, following in likeliest.items():
            successors += counted[here].count(following)
            n_steps += len(counted[here])
    assert len(cycles) == 500
    # 1 - 0.2 + 0.2 / 12, with the small upward bias of picking the likeliest
    assert successors / n_steps == pytest.approx(0.8167, abs=0.02)
    # the first token is uniform over all symbols
    counts = torch.bincount(tokens[:, 0], minlength=32)
    assert ((counts - 62.5) ** 2 / 62.5).sum() < 60  # chi-squared, 31 degrees of freedom


def test_without_restarts_the_cycle_simply_turns():
    tokens = ih.RestartCycle(n_symbols=7, period=5, restart=0.0, length=20).examples(0, 30, data_seed=0)
    assert torch.equal(tokens[:, 5:], tokens[:, :-5])
    assert all(len(set(row[:5])) == 5 for row in tokens.tolist())


def test_with_restarts_only_all_symbols_of_the_cycle_are_equally_likely():
    tokens = ih.RestartCycle(n_symbols=3, period=3, restart=1.0, length=1000).examples(0, 10, data_seed=0)
    pairs = torch.bincount((tokens[:, :-1] * 3 + tokens[:, 1:]).flatten(), minlength=9)
    assert pairs.float() / pairs.sum() == pytest.approx(torch.full((9,), 1 / 9), abs=0.012)


def test_the_floor_is_the_entropy_of_the_next_token():
    assert ih.RestartCycle().theoretical_floor == pytest.approx(0.916, abs=5e-4)
    assert ih.RestartCycle(restart=0.0).theoretical_floor == 0
    assert ih.RestartCycle(restart=1.0).theoretical_floor == pytest.approx(math.log(12))
    shares = [0.5 + 0.5 / 3, 0.5 / 3, 0.5 / 3]
    entropy = -sum(share * math.log(share) for share in shares)
    assert ih.RestartCycle(n_symbols=5, period=3, restart=0.5).theoretical_floor == pytest.approx(entropy)


def test_predictable_marks_tokens_whose_predecessor_had_them_before():
    corpus = ih.RestartCycle(n_symbols=5, period=2, length=8)
    tokens = torch.tensor([[0, 1, 0, 1, 2, 0, 1, 2]])
    assert corpus.predictable(tokens).tolist() == [[False, False, False, True, False, False, True, True]]


def test_a_batch_takes_under_two_milliseconds():
    corpus = ih.RestartCycle()
    times = []
    for step in range(30):
        start = time.perf_counter()
        corpus.examples(32 * step, 32 * step + 32, data_seed=0)
        times.append(time.perf_counter() - start)
    assert sorted(times)[5] < 2e-3


def test_the_description_is_json_and_tells_parameters_apart():
    described = ih.RestartCycle().describe()
    assert json.loads(json.dumps(described)) == described
    assert described["fingerprint"] == ih.RestartCycle().describe()["fingerprint"]
    assert described["fingerprint"] != ih.RestartCycle(restart=0.3).describe()["fingerprint"]
    corpus = ih.RestartCycle()
    assert isinstance(corpus, Corpus)
    assert (corpus.n_examples, corpus.n_pos, corpus.d_vocab, corpus.tokenizer, corpus.bos) == (None, 48, 32, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_symbols": 8}, "at least the 12 symbols"),
        ({"restart": 1.5}, "number from 0 to 1, got 1.5"),
        ({"length": 1}, "length: expected an integer of at least 2"),
        ({"period": 1}, "period: expected an integer of at least 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ih.InputError, match=message):
        ih.RestartCycle(**arguments)


def test_impossible_slices_and_seeds_are_refused():
    with pytest.raises(ih.InputError, match="0 <= start <= stop, got 5 and 3"):
        ih.RestartCycle().examples(5, 3, data_seed=0)
    with pytest.raises(ih.InputError, match="seed: expected an integer from 0"):
        ih.RestartCycle().examples(0, 3, data_seed=-1)

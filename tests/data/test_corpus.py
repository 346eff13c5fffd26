import json

import pytest
import torch

import ih_lens as ih
from ih_lens.data.corpus import Corpus, as_corpus


def rows(n=50, length=6):
    return torch.arange(n)[:, None].expand(n, length).contiguous()


def test_a_tensor_corpus_gives_every_row_once_in_an_order_of_the_seed():
    corpus = ih.TensorCorpus(rows())
    order = corpus.examples(0, 50, data_seed=0)
    assert sorted(order[:, 0].tolist()) == list(range(50))
    assert order[:, 0].tolist() != list(range(50))
    assert torch.equal(corpus.examples(13, 20, data_seed=0), order[13:20])
    assert not torch.equal(corpus.examples(0, 50, data_seed=1), order)
    assert order.dtype == torch.int64


def test_held_out_rows_do_not_depend_on_the_seed_and_are_never_trained_on():
    corpus = ih.TensorCorpus(rows(), n_held_out=9)
    held_out = set(corpus.held_out(9)[:, 0].tolist())
    assert len(held_out) == 9
    assert corpus.n_examples == 41
    for seed in range(3):
        trained = set(corpus.examples(0, 41, data_seed=seed)[:, 0].tolist())
        assert trained == set(range(50)) - held_out
    assert torch.equal(corpus.held_out(4), corpus.held_out(9)[:4])


def test_the_corpus_does_not_change_with_the_tensor_it_was_made_from():
    tokens = rows()
    corpus = ih.TensorCorpus(tokens)
    before = corpus.examples(0, 5, data_seed=0)
    tokens.zero_()
    corpus.examples(0, 5, data_seed=0).zero_()
    assert torch.equal(corpus.examples(0, 5, data_seed=0), before)


def test_the_description_tells_tokens_and_splits_apart_but_not_integer_types():
    described = ih.TensorCorpus(rows()).describe()
    assert json.loads(json.dumps(described)) == described
    assert described == ih.TensorCorpus(rows().to(torch.int16)).describe()
    others = [ih.TensorCorpus(rows() % 49), ih.TensorCorpus(rows(), d_vocab=60), ih.TensorCorpus(rows(), n_held_out=1)]
    assert len({described["fingerprint"], *(other.describe()["fingerprint"] for other in others)}) == 4


def test_as_corpus_takes_tensors_and_corpora():
    corpus = as_corpus(rows())
    assert isinstance(corpus, Corpus)
    assert (corpus.n_examples, corpus.n_pos, corpus.d_vocab) == (50, 6, 50)
    assert as_corpus(corpus) is corpus


def test_wrong_corpora_are_refused():
    with pytest.raises(ih.InputError, match=r"expected a tensor of token ids .* got list"):
        as_corpus([[1, 2]])
    with pytest.raises(ih.InputError, match="integer tensor"):
        as_corpus(torch.zeros(3, 4))
    with pytest.raises(ih.InputError, match="id 49 lies outside the vocabulary of 40"):
        ih.TensorCorpus(rows(), d_vocab=40)
    with pytest.raises(ih.InputError, match="leave none to train on"):
        ih.TensorCorpus(rows(), n_held_out=50)


def test_asking_for_too_much_says_what_to_do():
    corpus = ih.TensorCorpus(rows(), n_held_out=5)
    with pytest.raises(ih.InputError, match=r"corpus keeps 5 from training; ask for fewer, or .* larger n_held_out"):
        corpus.held_out(6)
    with pytest.raises(ih.InputError, match=r"holds 45 examples .* example 45 was asked for.* fewer steps"):
        corpus.examples(40, 46, data_seed=0)

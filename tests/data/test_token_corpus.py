import json
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

import ih_lens as ih
from ih_lens.data.corpus import Corpus
from ih_lens.data.token_file import write_token_file


@pytest.fixture
def numbered(tmp_path):
    """A file whose ids are 1, 2, 3, ... so that every window shows where it comes from."""

    def make(n_tokens: int):
        tokenizer = Tokenizer(models.WordLevel({"start": 0, "end": n_tokens}, unk_token="start"))
        ids = np.arange(1, n_tokens + 1)
        file = write_token_file(
            tmp_path / str(n_tokens),
            [ids[:5], ids[5:]],
            tokenizer=tokenizer,
            d_vocab=n_tokens + 1,
            bos=0,
            description={},
        )
        return file.path

    return make


def test_windows_begin_with_the_start_token_and_cover_the_file_once(numbered):
    corpus = ih.TokenCorpus(numbered(1003), 6)
    assert isinstance(corpus, Corpus)
    tokens = torch.cat([corpus.examples(0, corpus.n_examples, data_seed=0), corpus.held_out(10)])
    assert tokens.shape == (200, 6)
    assert (tokens[:, 0] == 0).all()
    assert sorted(tokens[:, 1:].flatten().tolist()) == list(range(1, 1001))
    assert (tokens[:, 2:] - tokens[:, 1:-1] == 1).all()


def test_the_start_token_can_be_left_out(numbered):
    corpus = ih.TokenCorpus(numbered(1003), 5, start_token=False)
    assert corpus.bos is None
    tokens = torch.cat([corpus.examples(0, 190, data_seed=0), corpus.held_out(10)])
    assert sorted(tokens.flatten().tolist()) == list(range(1, 1001))


@pytest.mark.parametrize("n_windows", [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_held_out_windows_are_every_so_manyth_whatever_the_seed(numbered, n_windows, every):
    corpus = ih.TokenCorpus(numbered(7 * n_windows), 8, held_out_every=every)
    expected = {window for window in range(n_windows) if window % every == every // 2}
    held_out = corpus.held_out(len(expected))
    assert {int(row[1]) // 7 for row in held_out} == expected
    for seed in (0, 1):
        trained = [int(row[1]) // 7 for row in corpus.examples(0, corpus.n_examples, data_seed=seed)]
        assert sorted(trained) == sorted(set(range(n_windows)) - expected)


def test_the_order_depends_on_the_seed_alone(numbered):
    path = numbered(2000)
    corpus = ih.TokenCorpus(path, 11)
    order = corpus.examples(0, 190, data_seed=4)
    assert torch.equal(ih.TokenCorpus(path, 11).examples(30, 60, data_seed=4), order[30:60])
    assert not torch.equal(corpus.examples(0, 190, data_seed=5), order)
    assert order[:, 1].tolist() != sorted(order[:, 1].tolist())
    assert torch.equal(corpus.held_out(3), corpus.held_out(10)[:3])
    assert corpus.held_out(0).shape == (0, 11)


def test_asking_for_too_much_says_what_to_do(numbered):
    corpus = ih.TokenCorpus(numbered(1003), 6)
    with pytest.raises(ih.InputError, match=r"corpus keeps 10 from training; .* smaller held_out_every"):
        corpus.held_out(11)
    with pytest.raises(ih.InputError, match=r"holds 190 examples .* no example is seen twice"):
        corpus.examples(189, 191, data_seed=0)
    with pytest.raises(ih.InputError, match="1003 tokens, too few for an example of 2000"):
        ih.TokenCorpus(corpus.file.path, 2000)
    with pytest.raises(ih.InputError, match="held_out_every: expected an integer of at least 2"):
        ih.TokenCorpus(numbered(50), 6, held_out_every=1)


def test_a_batch_reads_only_its_windows(numbered, monkeypatch):
    corpus = ih.TokenCorpus(numbered(100_000), 11)
    opened = corpus.file.tokens()
    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable
    copied: list[int] = []
    original = np.memmap.__getitem__

    def watched(array, key):
        result = original(array, key)
        if not isinstance(key, slice):
            copied.append(result.size)
        return result

    monkeypatch.setattr(np.memmap, "__getitem__", watched)
    corpus.examples(0, 8, data_seed=0)
    assert copied == [80]


def test_the_corpus_tells_its_tokenizer_counts_and_description(token_file):
    corpus = ih.TokenCorpus(token_file.path, 32)
    assert corpus.tokenizer.get_vocab_size() == corpus.d_vocab == 300
    assert corpus.counts.tolist() == list(token_file.counts)
    described = corpus.describe()
    assert json.loads(json.dumps(described)) == described
    variants = [
        ih.TokenCorpus(token_file.path, 33),
        ih.TokenCorpus(token_file.path, 32, start_token=False),
        ih.TokenCorpus(token_file.path, 32, held_out_every=10),
    ]
    assert len({described["fingerprint"], *(variant.describe()["fingerprint"] for variant in variants)}) == 4
    text = corpus.tokenizer.decode(corpus.held_out(1)[0].tolist())
    assert "cat" in text or "dog" in text


def test_counts_of_the_corpus_choose_random_tokens(token_file):
    from tests.helpers import tiny_model

    corpus = ih.TokenCorpus(token_file.path, 32)
    model = tiny_model("one_layer", d_vocab=300)
    drawn = ih.random_tokens(model, length=20, n_examples=300, counts=corpus.counts, bos=corpus.bos)
    by_commonness = corpus.counts[1:].sort().values
    assert int(corpus.counts[drawn[:, 1:]].max()) == by_commonness[-12]  # 4 % of 299 is 11
    assert int(corpus.counts[drawn[:, 1:]].min()) == by_commonness[11]


def first_examples(corpus):
    return corpus.examples(0, 4, data_seed=0).tolist()


def test_the_corpus_survives_pickling_and_forking(numbered):
    corpus = ih.TokenCorpus(numbered(1003), 6)
    expected = first_examples(corpus)
    assert len(pickle.dumps(corpus)) < 100_000
    assert first_examples(pickle.loads(pickle.dumps(corpus))) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(first_examples, (corpus,)) == expected

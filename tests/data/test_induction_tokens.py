import pytest
import torch

import ih_lens as ih
from tests.data.tokenizers import byte_level
from tests.helpers import tiny_model


def model(**changes):
    return tiny_model("attention_only", **{"n_ctx": 128, "d_vocab": 60, **changes})


@pytest.mark.parametrize("n_prefix", [2, 3, 4])
def test_prefixes_come_back_beside_others_that_end_alike(n_prefix: int) -> None:
    n_groups = 3
    tokens = ih.prefix_candidates(model(), n_prefix=n_prefix, n_groups=n_groups, n_examples=6, bos=0)
    assert tokens.shape == (6, 1 + n_groups * n_prefix * (n_prefix + 2))
    n_context = n_groups * n_prefix * (n_prefix + 1)
    for ids in tokens.tolist():
        assert ids[0] == 0
        blocks = torch.tensor(ids[1 : 1 + n_context]).view(-1, n_prefix + 1).tolist()
        for prefix in torch.tensor(ids[1 + n_context :]).view(-1, n_prefix).tolist():
            alike = [block for block in blocks if block[-2] == prefix[-1]]
            matched = sorted(_common_ending(block[:-1], prefix) for block in alike)
            assert matched == list(range(1, n_prefix + 1)), "one place for each length of the match"
            assert len({block[-1] for block in alike}) == n_prefix, "each is followed by a token of its own"


def _common_ending(some: list[int], others: list[int]) -> int:
    same = [a == b for a, b in zip(some[::-1], others[::-1], strict=True)]
    return (*same, False).index(False)


def test_candidates_stand_in_every_order() -> None:
    tokens = ih.prefix_candidates(model(), n_prefix=2, n_groups=1, n_examples=40)
    full_first = (tokens[:, :2] == tokens[:, -2:]).all(dim=1)
    assert 10 < int(full_first.sum()) < 30


def test_copies_stand_at_many_distances() -> None:
    tokens = ih.scattered_copies(model(), length=6, n_copies=3, n_between=12, n_examples=30, bos=0)
    assert tokens.shape == (30, 1 + 18 + 12)
    distances = set()
    for ids in tokens.tolist():
        again = [token for token in dict.fromkeys(ids) if ids.count(token) == 3]
        assert len(again) == 6
        assert all(ids.count(token) == 1 for token in set(ids) - set(again))
        starts = [i for i, token in enumerate(ids) if token == again[0]]
        assert all(ids[start : start + 6] == again for start in starts)
        distances |= {starts[1] - starts[0], starts[2] - starts[1]}
    assert min(distances) == 6
    assert len(distances) > 8


def test_entities_come_again_in_another_order() -> None:
    tokens = ih.entity_lists(model(), n_entities=5, entity_length=3, n_examples=6)
    lists = tokens.view(6, 2, 5, 4)
    assert len(lists[..., -1].unique()) <= 6
    for first, second in lists.tolist():
        assert sorted(first) == sorted(second)
        assert len({entity[-1] for entity in first}) == 1, "one separator"
        assert len({token for entity in first for token in entity[:-1]}) == 15
    assert any(first != second for first, second in lists.tolist())


@pytest.mark.parametrize(
    "make", [ih.prefix_candidates, ih.scattered_copies, ih.entity_lists], ids=lambda make: make.__name__
)
def test_seeds_and_bounds(make) -> None:
    big = model(n_ctx=512, d_vocab=400)
    assert torch.equal(make(big, seed=1), make(big, seed=1))
    assert not torch.equal(make(big, seed=1), make(big, seed=2))
    with pytest.raises(ih.InputError, match="do not fit the model's context of 16"):
        make(model(n_ctx=16))
    with pytest.raises(ih.InputError, match="distinct random tokens were asked for"):
        make(model(n_ctx=512, d_vocab=12))


def test_wrong_numbers_are_explained() -> None:
    for message, make in [
        ("n_prefix: expected an integer of at least 2", lambda: ih.prefix_candidates(model(), n_prefix=1)),
        ("n_groups: expected an integer of at least 1", lambda: ih.prefix_candidates(model(), n_groups=0)),
        ("n_copies: expected an integer of at least 2", lambda: ih.scattered_copies(model(), n_copies=1)),
        ("entity_length: expected an integer of at least 3", lambda: ih.entity_lists(model(), entity_length=2)),
    ]:
        with pytest.raises(ih.InputError, match=message):
            make()


def test_words_of_a_real_tokenizer() -> None:
    reader = model(d_vocab=500)
    reader.tokenizer = byte_level()
    forms = ih.word_forms(reader)
    assert forms
    for ids in forms:
        texts = ih.token_texts(reader, ids)
        assert len({text.strip().casefold() for text in texts}) == 1
        assert len(set(texts)) == len(texts) > 1
    tokens = ih.words_in_other_forms(reader, n_words=min(5, len(forms)), n_examples=3)
    n_words = tokens.shape[1] // 2
    for row in tokens.tolist():
        first, second = (
            [text.strip() for text in ih.token_texts(reader, part)]
            for part in (row[1 : 1 + n_words], row[1 + n_words :])
        )
        assert sorted(text.casefold() for text in first) == sorted(text.casefold() for text in second)
        assert not set(row[1 : 1 + n_words]) & set(row[1 + n_words :])
    with pytest.raises(ih.InputError, match="words were asked for, and the tokenizer has"):
        ih.words_in_other_forms(reader, n_words=len(forms) + 1)

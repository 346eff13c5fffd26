"""The text of single tokens, for tokenizers of every kind."""

from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers

from ih_lens.models.token_texts import _BYTES, token_texts
from tests.data import tokenizers
from tests.data.tokenizers import model_like

TEXT = "the water naïve § 汉 (3)\n"


def test_bytes_of_the_alphabet_are_those_of_the_tokenizers() -> None:
    assert set(_BYTES) == set(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.byte_level()
    for character, byte in _BYTES.items():
        (number,) = tokenizer.convert_tokens_to_ids([character])
        if byte < 0x80:
            assert tokenizer.decode([number]) == chr(byte)


def test_byte_level_texts_join_to_the_text() -> None:
    tokenizer = tokenizers.byte_level()
    ids = tokenizer(TEXT)["input_ids"]
    texts = token_texts(model_like(tokenizer=tokenizer), torch.tensor(ids))
    assert len(texts) == len(ids)
    assert "".join(texts) == TEXT.replace("汉", r"\xe6\xb1\x89").replace("ï", r"\xc3\xaf").replace("§", r"\xc2\xa7")
    assert " water" in texts


def test_special_unknown_and_added_tokens() -> None:
    tokenizer = tokenizers.neox()
    model = model_like(tokenizer=tokenizer)
    spaces = tokenizer.convert_tokens_to_ids("   ")
    shown = token_texts(model, [tokenizer.bos_token_id, spaces, len(tokenizer), 10**6])
    assert shown == [tokenizers.BOS, "   ", f"<id {len(tokenizer)}>", "<id 1000000>"]


def test_without_tokenizer_the_id_is_shown() -> None:
    assert token_texts(model_like(), torch.tensor([3, 0])) == ["3", "0"]
    assert token_texts(object(), []) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # sentencepiece's own
def test_sentencepiece_keeps_spaces_and_shows_bytes(tmp_path: Path) -> None:
    tokenizer = tokenizers.sentencepiece_bpe(tmp_path)
    pieces = ["<s>", "▁the", "▁", "a", "<0x0A>", "<0xE6>", "§"]
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert token_texts(model_like(tokenizer=tokenizer), ids) == ["<s>", " the", " ", "a", "\n", r"\xe6", "§"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unigram_accents_are_no_bytes(tmp_path: Path) -> None:
    tokenizer = tokenizers.sentencepiece_unigram(tmp_path)
    ids = tokenizer.convert_tokens_to_ids(["▁", "ï", "</s>"])
    assert token_texts(model_like(tokenizer=tokenizer), ids) == [" ", "ï", "</s>"]


def test_word_pieces() -> None:
    tokenizer = tokenizers.word_pieces()
    ids = tokenizer("the window")["input_ids"]
    assert "".join(token_texts(model_like(tokenizer=tokenizer), ids)).startswith("the")

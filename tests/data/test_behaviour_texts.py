import json
from pathlib import Path

import numpy as np
import pytest

import ih_lens as ih
from ih_lens.data.behaviours.pattern_lines import ANIMALS, COLOURS, FRUIT, MONTHS, draw_lines, with_words_exchanged
from ih_lens.data.behaviours.repeats import repeated_text, text_ids
from ih_lens.data.behaviours.sentence_pairs import SentencePair, sentence_pairs
from ih_lens.data.behaviours.spans import span_reader
from tests.data import tokenizers
from tests.data.tokenizers import model_like

TEXT = "January bird: 0\nnaïve § 汉 gathering, the water: 3\n"


@pytest.fixture(scope="module", params=["byte_level", "neox", "without_start_token", "sentencepiece_bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer")
    made = {
        "sentencepiece_bpe": lambda: tokenizers.sentencepiece_bpe(folder),
        "unigram": lambda: tokenizers.sentencepiece_unigram(folder),
    }
    return made.get(request.param, getattr(tokenizers, request.param, None))()


def test_tokens_know_their_characters(tokenizer) -> None:
    spanned = span_reader(model_like(d_vocab=len(tokenizer), tokenizer=tokenizer))(TEXT)
    inside = [span for span in spanned.spans if span != (-1, -1)]
    assert [span[0] for span in inside] == sorted(span[0] for span in inside)
    for word in ("January", "bird", "gathering", "water", "naïve"):
        start = TEXT.index(word)
        held = spanned.of(start, start + len(word))
        assert held
        if word in ("gathering", "water"):  # not every vocabulary has all letters of the others
            assert tokenizer.decode(list(spanned.ids[held.start : held.stop])).strip() == word
        # the word's own characters, and no others but the space before it
        assert TEXT[spanned.spans[held.start][0] : spanned.spans[held.stop - 1][1]].strip() == word


def test_a_start_token_stands_in_front_and_for_no_character() -> None:
    model = model_like(d_vocab=500, tokenizer=tokenizers.byte_level())
    with_start, without = span_reader(model)(TEXT), span_reader(model, None)(TEXT)
    assert with_start.ids == (0, *without.ids)
    assert with_start.spans == ((-1, -1), *without.spans)
    assert with_start.of(0, 7).start == 1


def test_python_tokenizers_are_asked_for_the_text_of_each_token() -> None:
    class Letters:
        """A tokenizer without offsets: a token per letter."""

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text]}

        def __len__(self) -> int:
            return 128

        def convert_ids_to_tokens(self, number: int) -> str:
            return chr(number)

        def decode(self, ids: list[int], **_: object) -> str:
            return "".join(map(chr, ids))

    class Lossy(Letters):
        """It does not tell capital letters from small ones."""

        def decode(self, ids: list[int], **_: object) -> str:
            return super().decode(ids).lower()

    spanned = span_reader(model_like(d_vocab=128, tokenizer=Letters()), None)("ab cd")
    assert spanned.spans == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    assert list(spanned.of(3, 5)) == [3, 4]
    with pytest.raises(ih.CapabilityError, match="does not tell where in a text its tokens stand"):
        span_reader(model_like(d_vocab=128, tokenizer=Lossy()), None)("Ab")


def test_without_a_tokenizer_there_is_no_text() -> None:
    with pytest.raises(ih.CapabilityError, match="the model has no tokenizer"):
        span_reader(model_like())
    with pytest.raises(ih.CapabilityError, match="the model has no tokenizer"):
        text_ids(model_like())


@pytest.mark.parametrize("n_pos", [24, 60, 256])
@pytest.mark.parametrize("seed", range(5))
def test_spans_come_again_at_many_distances(n_pos: int, seed: int) -> None:
    ids = list(range(1, 1000))  # every token once, so that copies can be told
    span = min(16, n_pos // 4 - 1)
    text = repeated_text(ids, n_pos=n_pos, span=span, layout="spans", start=0, generator=np.random.default_rng(seed))
    assert len(text.ids) == len(text.control_ids) == n_pos
    assert text.ids[0] == text.control_ids[0] == 0
    copied = set()
    for copy, original, length in text.copies:
        assert text.ids[copy : copy + length] == text.ids[original : original + length]
        assert original + length <= copy
        assert text.ids[copy - 1] != text.ids[original - 1]
        copied |= {*text.ids[copy : copy + length]}
    repeated = {number for number in text.ids if text.ids.count(number) > 1}
    assert repeated == copied
    assert len(set(text.control_ids)) == n_pos  # nothing comes twice
    changed = [place for place in range(n_pos) if text.ids[place] != text.control_ids[place]]
    assert max(changed) < text.copies[0][0]
    if n_pos == 256:
        assert len({copy - original for copy, original, _ in text.copies}) > 1


def test_a_whole_passage_comes_again() -> None:
    text = repeated_text(
        list(range(200)), n_pos=41, span=9, layout="whole", start=500, generator=np.random.default_rng(0)
    )
    assert text.ids[1:21] == text.ids[21:]
    assert text.copies == ((21, 1, 20),)
    assert text.control_ids[21:] == text.ids[21:]
    assert not {*text.control_ids[1:21]} & {*text.ids[1:21]}


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(ih.InputError, match="it has 20 tokens, and examples of 64 need at least"):
        repeated_text(list(range(20)), n_pos=64, span=8, layout="spans", start=None, generator=np.random.default_rng(0))


def test_the_stories_are_long_enough_and_own_texts_are_read(tmp_path: Path) -> None:
    model = model_like(d_vocab=500, tokenizer=tokenizers.byte_level())
    ids, name = text_ids(model)
    assert len(ids) > 1000
    assert name == "the stories of ih_lens"
    (tmp_path / "a.txt").write_text("the water of the window " * 9, encoding="utf8")
    of_file, named = text_ids(model, tmp_path / "a.txt")
    assert text_ids(model, ["the water of the window " * 9])[0] == of_file
    assert named == str(tmp_path / "a.txt")


def test_lines_have_the_classes_of_their_words() -> None:
    lines = draw_lines((MONTHS, COLOURS), (ANIMALS, FRUIT), n_lines=30, n_words=4, generator=np.random.default_rng(1))
    assert len({line.words for line in lines}) == 30
    for line in lines:
        assert line.label == 2 * (line.words[0] in COLOURS) + (line.words[1] in FRUIT)
        assert line.text == f"{line.words[0]} {line.words[1]}: {line.label}\n"
        assert line.text[line.label_at] == str(line.label)
    assert all(len({line.words[place] for line in lines}) <= 8 for place in (0, 1))
    exchanged = with_words_exchanged(lines, np.random.default_rng(2))
    assert [line.label for line in exchanged] == [line.label for line in lines]
    assert sorted(line.words for line in exchanged) == sorted(line.words for line in lines)
    assert [line.words for line in exchanged] != [line.words for line in lines]


def test_no_word_is_of_two_kinds() -> None:
    words = [*MONTHS, *COLOURS, *ANIMALS, *FRUIT]
    assert len({word.casefold() for word in words}) == len(words)


def test_the_sample_is_aligned_in_two_languages() -> None:
    pairs, name = sentence_pairs()
    assert name == "the sentences of ih_lens"
    assert len(pairs) == 60
    assert {pair.languages for pair in pairs} == {("EN", "FR"), ("EN", "DE")}
    for pair in pairs:
        assert pair.alignment
        aligned = {other for _, other in pair.alignment}
        assert len(aligned) >= 0.7 * len(pair.second.split()), pair
    known = {(pair.first, pair.languages[1]): pair for pair in pairs}
    pair = known["The moon was bright and the street was empty.", "DE"]
    words = pair.first.split(), pair.second.split()
    assert {(words[0][one], words[1][other]) for one, other in pair.alignment or ()} >= {
        ("moon", "Mond"),
        ("empty.", "leer."),
    }


def test_pairs_are_read_from_tuples_and_files(tmp_path: Path) -> None:
    expected = [SentencePair("a b", "c d", ((0, 0), (1, 1))), SentencePair("e", "f")]
    tuples = [("a b", "c d", "0-0 1-1"), ("e", "f")]
    assert sentence_pairs(tuples) == (expected, "given")
    assert sentence_pairs([("a b", "c d", [(0, 0), (1, 1)]), ("e", "f", None)])[0] == expected
    (tmp_path / "pairs.tsv").write_text("a b\tc d\t0-0 1-1\n\ne\tf\n", encoding="utf8")
    assert sentence_pairs(tmp_path / "pairs.tsv") == (expected, str(tmp_path / "pairs.tsv"))
    records = [
        {"first": "a b", "second": "c d", "alignment": "0-0 1-1"},
        {"first": "e", "second": "f", "second_language": "NL"},
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf8")
    read, _ = sentence_pairs(str(tmp_path / "pairs.jsonl"))
    assert read == [expected[0], SentencePair("e", "f", None, ("EN", "NL"))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "expected pairs of texts"),
        ([], "got none"),
        (["ab"], "got an entry 'ab'"),
        ([("a",)], "got an entry"),
        ([("a", 1)], "got an entry"),
        ([("a", " ")], "expected two texts"),
        ([("a", "b", "0-1")], "0-1 does not fit 1 and 1 words"),
        ([("a", "b", "zero")], "expected pairs of word numbers"),
        ([("a", "b", 7)], "expected pairs of word numbers"),
        ("no/such/file.tsv", "cannot be read as text"),
    ],
)
def test_other_pairs_are_refused(given: object, message: str) -> None:
    with pytest.raises(ih.InputError, match=message):
        sentence_pairs(given)


def test_damaged_records_are_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"first": "a", "second": "b"}\n{"first": "a"}\n', encoding="utf8")
    with pytest.raises(ih.InputError, match="record 2 has no texts 'first' and 'second'"):
        sentence_pairs(tmp_path / "pairs.jsonl")


def test_two_columns_of_many_are_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "many.tsv").write_text("id\ten\tfr\tde\n1\ta b\tc d\te f\n2\tg\th\ti\n", encoding="utf8")
    read, _ = sentence_pairs(tmp_path / "many.tsv", ("de", "en"))
    assert read == [SentencePair("e f", "a b", None, ("DE", "EN")), SentencePair("i", "g", None, ("DE", "EN"))]
    (tmp_path / "many.jsonl").write_text('{"en": "a b", "fr": "c d", "alignment": "0-1"}', encoding="utf8")
    read, _ = sentence_pairs(tmp_path / "many.jsonl", ("en", "fr"))
    assert read == [SentencePair("a b", "c d", ((0, 1),), ("EN", "FR"))]
    with pytest.raises(ih.InputError, match=r"columns: expected two of those .* \['id', 'en', 'fr', 'de'\]"):
        sentence_pairs(tmp_path / "many.tsv", ("en", "nl"))
    with pytest.raises(ih.InputError, match="names the two of a file with more columns"):
        sentence_pairs(tmp_path / "many.tsv")

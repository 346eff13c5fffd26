"""Behaviours against slow twins that read the texts anew, and against heads of which it is known what they do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformer_lens import HookedTransformer
from transformers import PreTrainedTokenizerFast

import ih_lens as ih
from demos.stand_ins import KINDS, TRANSLATIONS, save_gpt2
from ih_lens.measure.behaviours._base import TARGETS
from tests.data import tokenizers
from tests.data.tokenizers import model_like
from tests.measure.behaviours_anew import (
    SMALL,
    behaviours,
    rows_of,
    sentence,
    sentences,
    slow_attribution,
    slow_pattern_matching,
    stories,
)
from tests.measure.twins import patterns
from tests.oracles.behaving import looking_back_model, reading_model, word_tokenizer

NO_PROGRESS = {"progress": False}


@pytest.mark.parametrize("kind", ["attention_only", "rotary", "rms_grouped", "smeared", "no_norm"])
def test_pattern_matching_agrees_with_lines_read_anew(kind: str) -> None:
    model = reading_model(kind)
    scores = ih.score_behaviours(model, behaviours=[SMALL], batch_size=2, **NO_PROGRESS)
    texts = SMALL.texts(model)
    examples = [slow_pattern_matching(list(text.ids), rows_of(model, text)[0]) for text in texts.texts]
    for name in examples[0]:
        expected = torch.stack([torch.stack(example[name]).mean(dim=0) for example in examples]).mean(dim=0)
        torch.testing.assert_close(scores.to_tensor(f"pattern_matching{name}"), expected, rtol=0, atol=1e-9)
    shares = [torch.stack(e[""]).mean(dim=0) / torch.stack(e["_labels"]).mean(dim=0) for e in examples]
    torch.testing.assert_close(
        scores.to_tensor("pattern_matching_share"), torch.stack(shares).mean(dim=0), rtol=0, atol=1e-9
    )
    for name, anywhere in (("attribution", False), ("attribution_anywhere", True)):
        expected = torch.stack([slow_attribution(model, text, anywhere=anywhere) for text in texts.texts]).mean(dim=0)
        torch.testing.assert_close(scores.to_tensor(f"pattern_matching_{name}"), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["with_mlps", "alibi"])
def test_translation_agrees_with_words_read_anew(kind: str) -> None:
    model = reading_model(kind)
    pairs = [
        ("bab bem dab dem fab.", "xdab xbem fab xbab xfab.", "0-3 1-1 2-0 4-4"),
        ("gab gem kab kem.", "xgab xgem xkem", "0-0 1-1 2-2 3-2"),
    ]
    scores = ih.score_behaviours(model, behaviours=[ih.Translation(pairs=pairs)], **NO_PROGRESS)
    examples = []
    for first, second, alignment in pairs:
        firsts, seconds = first.strip(".").split(), second.strip(".").split()
        text = word_tokenizer().tokenize(f"EN: {first}\nFR: {second}")
        tokens = torch.tensor([[0, *word_tokenizer().convert_tokens_to_ids(text)]])
        start = text.index("FR") + 3  # of the second sentence, start token counted
        pattern, rows = patterns(model, tokens)[0], []
        for word in range(1, len(seconds)):
            query = start + word - 1
            aligned = [int(pair.split("-")[0]) for pair in alignment.split() if pair.split("-")[1] == str(word)]
            if aligned and seconds[word - 1] not in firsts:
                rows.append(sum(pattern[:, :, query, 3 + other] for other in aligned))
        examples.append(sum(rows) / len(rows))
    torch.testing.assert_close(scores.to_tensor("translation"), torch.stack(examples).mean(dim=0), rtol=0, atol=1e-9)
    text = ih.Translation(pairs=pairs).texts(model).texts[0]
    # xdab -> bem; xbem has no aligned next word, fab was there before, xbab -> fab, literally its fifth word
    assert text.targets == {12: (4,), 15: (7,)}


@pytest.mark.parametrize("layout", ["spans", "whole"])
def test_literal_copying_agrees_with_texts_compared_anew(layout: str) -> None:
    model = reading_model("parallel")
    behaviour = ih.LiteralCopying(text=stories(), n_examples=3, n_pos=90, span=7, layout=layout)
    scores = ih.score_behaviours(model, behaviours=[behaviour], **NO_PROGRESS)
    made = behaviour.texts(model)
    found: dict[str, list[torch.Tensor]] = {"": [], "_baseline": []}
    for text, control in zip(made.texts, made.controls, strict=True):
        targets = {}
        for query in text.destinations:
            # the longest match that ends here tells which earlier place this is a copy of
            lengths = {
                key: next((n for n in range(query + 1) if text.ids[query - n] != text.ids[key - n]), query)
                for key in range(query)
            }
            targets[query] = max(lengths, key=lambda key: lengths[key]) + 1
        wrong = [query for query, key in targets.items() if text.targets[query] != (key,)]
        assert len(wrong) <= 0.1 * len(targets)  # a copy's first token may have come before, elsewhere
        assert all(text.ids[query + 1] == text.ids[keys[0]] for query, keys in text.targets.items())
        for name, example in (("", text), ("_baseline", control)):
            pattern = rows_of(model, example)[0]
            found[name].append(sum(pattern[:, :, q, k[0]] for q, k in text.targets.items()) / len(targets))
    for name, examples in found.items():
        torch.testing.assert_close(
            scores.to_tensor(f"literal_copying{name}"), torch.stack(examples).mean(dim=0), rtol=0, atol=1e-9
        )
    elsewhere = scores["literal_copying_elsewhere"]
    assert bool(elsewhere.isnull().all()) is (layout == "whole")
    assert ("undefined" in elsewhere.attrs) is (layout == "whole")
    for name, anywhere in (("attribution", False), ("attribution_anywhere", True)):
        expected = torch.stack([slow_attribution(model, text, anywhere=anywhere) for text in made.texts]).mean(dim=0)
        torch.testing.assert_close(scores.to_tensor(f"literal_copying_{name}"), expected, rtol=0, atol=1e-9)


def test_excess_and_spread_are_of_single_examples() -> None:
    model = reading_model("attention_only")
    scores = ih.score_behaviours(model, behaviours=behaviours(), **NO_PROGRESS)
    for name in ("literal_copying", "translation", "pattern_matching", "translation_attribution"):
        parts = {end: scores.estimate(f"{name}{end}").examples for end in ("", "_baseline", "_excess")}
        np.testing.assert_allclose(parts[""] - parts["_baseline"], parts["_excess"], atol=1e-12)
        n_examples = parts[""].sizes["example"]
        assert n_examples == (6 if name.startswith("translation") else 3)
        np.testing.assert_allclose(scores[name], parts[""].mean("example"), atol=1e-12)
        expected = parts["_excess"].std("example", ddof=1) / np.sqrt(n_examples)
        np.testing.assert_allclose(scores.stderr(f"{name}_excess"), expected, atol=1e-12)
    assert scores.p_value("translation_excess", null=0.0).notnull().all()


def test_the_batch_size_changes_nothing() -> None:
    model = reading_model("with_mlps")
    alone, together = (
        ih.score_behaviours(model, behaviours=behaviours(), batch_size=size, **NO_PROGRESS) for size in (1, None)
    )
    for name in alone.names:
        np.testing.assert_allclose(alone[name], together[name], atol=1e-9)


@pytest.mark.parametrize("kind", ["with_mlps", "local"])
def test_models_with_hooks_of_their_own_get_the_same(kind: str) -> None:
    model = reading_model(kind)
    fused = ih.score_behaviours(model, behaviours=behaviours(), **NO_PROGRESS)
    model.blocks[0].hook_mlp_out.add_hook(lambda activation, hook: activation)
    hooked = ih.score_behaviours(model, behaviours=behaviours(), **NO_PROGRESS)
    assert (fused.attrs["forward"], hooked.attrs["forward"]) == ("fused", "hooked")
    for name in fused.names:
        np.testing.assert_allclose(fused[name], hooked[name], atol=1e-9)


def test_half_precision_is_read_in_float32() -> None:
    half = ih.score_behaviours(reading_model("with_mlps", dtype=torch.bfloat16), behaviours=[SMALL], **NO_PROGRESS)
    full = ih.score_behaviours(reading_model("with_mlps", dtype=torch.float32), behaviours=[SMALL], **NO_PROGRESS)
    for name in ("pattern_matching", "pattern_matching_baseline", "pattern_matching_attribution"):
        np.testing.assert_allclose(half[name], full[name], atol=0.05)


def test_the_model_and_its_tokenizer_are_left_as_they_were() -> None:
    model = reading_model("attention_only")
    before, written = model.training, model.tokenizer.backend_tokenizer.to_str()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    ih.score_behaviours(model, behaviours=behaviours(), **NO_PROGRESS)
    assert model.training == before
    assert model.tokenizer.backend_tokenizer.to_str() == written
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_heads_that_attend_to_everything_alike_get_the_baseline() -> None:
    model = looking_back_model([0, 1])
    scores = ih.score_behaviours(model, behaviours=behaviours(), **NO_PROGRESS)
    uniform = scores.head("L0H0")
    for name in ("literal_copying", "translation", "pattern_matching"):
        assert uniform[f"{name}_excess"] == pytest.approx(0, abs=1e-9)
        assert 0 < uniform[name] < 0.2
    assert uniform["pattern_matching_share"] == pytest.approx(uniform["pattern_matching_share_by_chance"], abs=1e-9)
    assert uniform["pattern_matching_per_line"] == pytest.approx(uniform["pattern_matching_per_near_line"], abs=1e-9)
    # early destinations, which attend to fewer tokens, are too close to the start for some of the other distances
    assert uniform["literal_copying_elsewhere"] == pytest.approx(uniform["literal_copying"], rel=0.1)


def test_a_head_on_the_diagonal_translates_word_by_word_and_is_found_out_by_its_baseline() -> None:
    # nine words, a line break, FR and the colon: the aligned next word stands eleven places back
    model = looking_back_model([11, 10, 0])
    scores = ih.score_behaviours(model, behaviours=[ih.Translation(pairs=sentences())], **NO_PROGRESS)
    diagonal, beside = scores.head("L0H0"), scores.head("L0H1")
    assert diagonal["translation"] == pytest.approx(1)
    assert diagonal["translation_after"] == pytest.approx(1)
    assert diagonal["translation_baseline"] == pytest.approx(1)
    assert diagonal["translation_excess"] == pytest.approx(0)
    assert diagonal["translation_band"] == pytest.approx(1)
    assert beside["translation"] == pytest.approx(0, abs=1e-9)


def test_without_alignment_a_band_around_the_diagonal_counts() -> None:
    model = looking_back_model([11, 15, 0])
    pairs = [pair[:2] for pair in sentences()]
    behaviour = ih.Translation(pairs=pairs, band=0.06)  # of nine words: one
    scores = ih.score_behaviours(model, behaviours=[behaviour], **NO_PROGRESS)
    assert scores.head("L0H0")["translation"] == pytest.approx(1)
    assert scores.head("L0H1")["translation"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(scores.head("L0H0")["translation_after"])
    text = behaviour.texts(model).texts[0]
    assert all(len(keys) == 1 for keys in text.targets.values())
    wide = ih.Translation(pairs=pairs, band=0.2).texts(model).texts[0]
    assert {len(keys) for keys in wide.targets.values()} == {2, 3}
    assert scores["translation"].attrs["n_aligned"] == 0


def test_a_fixed_distance_copies_whole_passages_and_no_spans() -> None:
    # a passage of 49 tokens behind a start token: its next token stands 48 places back
    model = looking_back_model([48, 0])
    whole, spans = (
        ih.score_behaviours(
            model,
            behaviours=[ih.LiteralCopying(text=stories(), n_examples=4, n_pos=99, span=8, layout=layout)],
            **NO_PROGRESS,
        ).head("L0H0")
        for layout in ("whole", "spans")
    )
    assert whole["literal_copying"] == pytest.approx(1)
    assert whole["literal_copying_excess"] == pytest.approx(0)
    assert spans["literal_copying"] < 0.2


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> HookedTransformer:
    """Heads that match words (L5H5), meanings (L7H10), and the kinds of two words (L8H1)."""
    folder = tmp_path_factory.mktemp("planted")
    save_gpt2(folder)
    return ih.load_model(str(folder))


def test_planted_heads_do_what_they_were_planted_for(planted: HookedTransformer) -> None:
    days, colours, animals, fruit = (group.split() for line in KINDS.strip().splitlines() for group in line.split("|"))
    words = ["king", "queen", "dog", "house", "moon", "door", "letter", "milk", "table"]
    french = ["roi", "reine", "chien", "maison", "lune", "porte", "lettre", "lait", "Tisch"]
    generator = np.random.default_rng(3)
    orders = [generator.permutation(len(words)).tolist() for _ in range(8)]
    aligned = " ".join(f"{place}-{place}" for place in range(len(words)))
    pairs = [(" ".join(words[p] for p in order), " ".join(french[p] for p in order), aligned) for order in orders]
    known = f"{TRANSLATIONS} {KINDS}".replace("|", " ").split()
    story = [" ".join(generator.permutation([*known, *(word.capitalize() for word in known if word.islower())]))]
    scores = ih.score_behaviours(
        planted,
        behaviours=[
            ih.LiteralCopying(text=story, n_pos=120, n_examples=4),
            ih.Translation(pairs=pairs),
            ih.PatternMatching(
                first=(tuple(days), tuple(colours)), second=(tuple(animals), tuple(fruit)), n_examples=4
            ),
        ],
        **NO_PROGRESS,
    )
    literal, meaning, kinds = (scores.head(head) for head in ("L5H5", "L7H10", "L8H1"))
    assert literal["literal_copying"] > 0.7
    assert literal["literal_copying_excess"] > 0.7
    assert literal["literal_copying_attribution_excess"] > 0.5
    assert abs(literal["translation_excess"]) < 0.05
    assert abs(literal["pattern_matching_share"] - literal["pattern_matching_share_by_chance"]) < 0.1
    assert meaning["translation"] > 0.9
    assert meaning["translation_excess"] > 0.7
    assert meaning["translation_attribution_excess"] > 0.3
    assert kinds["pattern_matching"] > 0.99
    assert kinds["pattern_matching_baseline"] < 0.35
    assert kinds["pattern_matching_share"] > 0.99
    assert kinds["pattern_matching_per_near_line"] < 0.01 < kinds["pattern_matching_per_line"]
    assert kinds["pattern_matching_attribution"] > 3
    assert scores.top("pattern_matching_excess", 1)[0][0] == (8, 1)
    # heads that do nothing attend to all tokens alike
    idle = scores.head("L11H0")
    assert all(abs(idle[f"{name}_excess"]) < 0.02 for name in ("literal_copying", "translation", "pattern_matching"))


def test_exact_chance_is_the_mean_over_orders_of_classes() -> None:
    model = reading_model("attention_only")
    scores = ih.score_behaviours(model, behaviours=[SMALL], **NO_PROGRESS)
    generator, drawn = np.random.default_rng(0), torch.zeros(400, 2, 4, dtype=torch.float64)
    texts = SMALL.texts(model).texts
    for text in texts:
        pattern = rows_of(model, text)[0]
        labels = np.array(word_tokenizer().convert_ids_to_tokens(list(text.ids)))[4::5]
        asked = [number for number in range(1, len(labels)) if labels[number] in labels[:number]]
        for number in asked:
            row = pattern[:, :, 3 + 5 * number, 4 : 4 + 5 * number : 5]
            for draw in range(len(drawn)):
                order = generator.permutation(labels[:number])
                drawn[draw] += row[..., order == labels[number]].sum(dim=-1) / len(asked) / len(texts)
    means, spread = drawn.mean(dim=0), drawn.std(dim=0) / 20
    chance = scores.to_tensor("pattern_matching_chance")
    assert bool(((chance - means).abs() < 4.5 * spread + 1e-9).all())


@pytest.mark.parametrize("name", ["byte_level", "neox", "sentencepiece_bpe"])
def test_words_and_labels_of_several_tokens_are_followed(name: str, tmp_path: Path) -> None:
    made = tokenizers.sentencepiece_bpe(tmp_path) if name == "sentencepiece_bpe" else getattr(tokenizers, name)()
    model = model_like(d_vocab=len(made), n_ctx=600, tokenizer=made)
    for text in SMALL.texts(model).texts:
        labels = [made.decode([text.ids[query + 1]]).strip() for query in text.destinations]
        assert set(labels) <= {"0", "1", "2", "3"}
        for query, label in zip(text.destinations, labels, strict=True):
            assert made.decode(list(text.ids[: query + 1])).rstrip().endswith(":")
            assert {made.decode([text.ids[key]]).strip() for key in text.targets[query]} == {label}
            rivals = {made.decode([rival]).strip() for rival in text.rivals[query]}
            assert rivals | {label} == {"0", "1", "2", "3"}


def test_short_contexts_have_fewer_lines_and_shorter_texts_or_are_refused() -> None:
    model = reading_model("attention_only", n_ctx=48)
    scores = ih.score_behaviours(model, behaviours=[SMALL, ih.LiteralCopying(text=stories())], **NO_PROGRESS)
    assert scores["pattern_matching"].attrs["n_lines"] == 9  # of five tokens, after a start token
    assert scores["literal_copying"].attrs["n_pos"] == 48
    assert scores["literal_copying"].attrs["span"] == 11
    tiny = reading_model("attention_only", n_ctx=20)
    refused = [
        (SMALL, "3 lines fit its context of 20 tokens, and 6 are needed"),
        (ih.LiteralCopying(text=stories()), "needs a context of at least 24 tokens, and this model has 20"),
        (ih.Translation(pairs=sentences()), "6 pairs, each longer than its context of 20 tokens"),
    ]
    for behaviour, message in refused:
        with pytest.raises(ih.CapabilityError, match=message):
            ih.score_behaviours(tiny, behaviours=[behaviour], **NO_PROGRESS)


def test_pairs_that_do_not_fit_are_left_out_and_counted() -> None:
    model = reading_model("attention_only", n_ctx=40)
    long = sentence(np.random.default_rng(7), 30)
    scores = ih.score_behaviours(model, behaviours=[ih.Translation(pairs=[*sentences(), long])], **NO_PROGRESS)
    assert scores["translation"].attrs["n_left_out"] == 1
    assert scores.stderr("translation").attrs["n_examples"] == 6


def words_and_signs(*more: str) -> PreTrainedTokenizerFast:
    """A token per letter or sign, and some more."""
    known = ["<unk>", "a", "b", ":", " ", "\n", *more]
    inner = Tokenizer(WordLevel({token: place for place, token in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" 1|\n|."), "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def test_labels_must_be_tokens_of_their_own() -> None:
    made = words_and_signs("0", "1", " 1")
    with pytest.raises(ih.CapabilityError, match="does not give each of the labels 0, 1, 2 and 3 a token of its own"):
        SMALL.texts(model_like(d_vocab=40, n_ctx=400, tokenizer=made))


def test_the_token_before_a_label_does_not_tell_which_it_is() -> None:
    made = words_and_signs("0", "1", " 1", "2", "3")  # one label of four is joined with the space before it
    model = model_like(d_vocab=40, n_ctx=400, tokenizer=made)
    texts = SMALL.texts(model)
    assert texts.description["line"] == "(first) (second):(0-3)"
    colon = made.convert_tokens_to_ids(":")
    assert all(text.ids[query] == colon for text in texts.texts for query in text.destinations)
    assert SMALL.texts(reading_model("attention_only")).description["line"] == "(first) (second): (0-3)"


def test_what_a_model_does_not_allow_is_said() -> None:
    without = reading_model("attention_only")
    without.tokenizer = None
    with pytest.raises(ih.CapabilityError, match="the model has no tokenizer"):
        ih.score_behaviours(without, **NO_PROGRESS)
    local = reading_model("local")  # layer 1 sees 8 positions
    scores = ih.score_behaviours(local, behaviours=[ih.Translation(pairs=sentences(length=12))], **NO_PROGRESS)
    assert bool(scores["translation"].isel(layer=1).isnull().all())
    assert bool(scores["translation"].isel(layer=0).notnull().all())
    assert "layer 1: local attention does not reach back" in scores["translation"].attrs["undefined"]
    capped = reading_model("attention_only", output_logits_soft_cap=5.0)
    scores = ih.score_behaviours(capped, behaviours=[SMALL], **NO_PROGRESS)
    assert bool(scores["pattern_matching"].notnull().all())
    assert bool(scores["pattern_matching_attribution_excess"].isnull().all())
    assert "caps its logits" in scores["pattern_matching_attribution"].attrs["undefined"]


def test_wrong_arguments_are_explained() -> None:
    model = reading_model("attention_only")
    cases = [
        ("behaviours: expected one of literal_copying, translation, pattern_matching", ["parroting"]),
        ("behaviours: expected at least one, each once, got none", []),
        ("each once, got pattern_matching, pattern_matching", [SMALL, "pattern_matching"]),
        ("layout: expected one of spans, whole", [ih.LiteralCopying(layout="twice")]),
        ("band: expected a number between 0 and 1", [ih.Translation(band=1.5)]),
        ("n_lines: 100 different lines need more words", [ih.PatternMatching(n_lines=100, n_words=3)]),
        ("with no word in two of them", [ih.PatternMatching(second=(("bird",), ("Bird",)))]),
        ("n_lines: expected an integer of at least 6", [ih.PatternMatching(n_lines=2)]),
    ]
    for message, asked in cases:
        with pytest.raises(ih.InputError, match=message):
            ih.score_behaviours(model, behaviours=asked, **NO_PROGRESS)


def test_the_same_seed_gives_the_same_and_another_gives_others() -> None:
    model = reading_model("attention_only")
    first, again, other = (behaviours()[2].texts(model, seed=seed).texts for seed in (0, 0, 1))
    assert first == again
    assert first[0].ids != other[0].ids
    assert TARGETS in first[0].readings

"""Stand-ins for the models of the notebooks: small, in the hub's format, with heads planted by hand, never trained.

Where GPT-2 and Pythia cannot be downloaded, the notebooks run on these. All weights are zero but for a few matrices, so
which head does what is known. From the folder of the notebooks:

    python stand_ins.py gpt2 gpt2_stand_in    # then set IH_LENS_DEMO_MODEL=gpt2_stand_in
    python stand_ins.py pythia pythia_stand_in    # prints the settings
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ih_lens.models.checkpoints import published_checkpoints
from ih_lens.models.published_config import keep_tokenizer, read_configuration
from ih_lens.models.published_record import PublishedRecord

WIDTH = 40
"""Numbers per token vector, the last of them kept for `_REST`; enough to tell a thousand random directions apart."""
SHARP = 60.0
"""Attention score of what a planted head looks for, above what it does not."""
N_CTX = 256
SPARE_ROWS = 4
"""Rows of the embedding that no token uses, as in Pythia's."""
PYTHIA = "EleutherAI/pythia-70m"
REVISIONS = {
    **{f"step{step}": 0.0 for step in (0, 8, 64, 256)},
    **{"step512": 0.03, "step1000": 0.06, "step2000": 0.12, "step4000": 0.3},
    **{f"step{step}": 1.0 for step in (8000, 16000, 32000, 64000, 143000)},
}
"""Of the stand-in for Pythia: how much its heads attend to what they look for, 0 to 1."""

ABOUT = (
    "This is no published model but a small stand-in with heads planted by hand (demos/stand_ins.py): its numbers show "
    "how the notebook works, not what a trained model does."
)
"""Kept beside the weights; the notebooks print it."""

_PARTS = ("word", "meaning", "position", "before", "meaning_1", "meaning_2", "meaning_3", "says", "means")
"""Of the residual stream: the token, what it means, where it stands; the token before, the meanings of the tokens one,
two and three back; and what the unembedding reads."""
_REST = len(_PARTS) * WIDTH
"""Marks the start token, where heads look that find nothing."""

TRANSLATIONS = """
the le la der die den dem das|a une un einen|old vieux alte|king roi König|queen reine Königin|young jeune junge
sleeps dort schläft|sees voit sieht|opens ouvre öffnet|reads lit liest|drinks boit trinkt|dreams rêve träumt
in dans|big grande großen|house maison Haus|small petit kleine|dog chien Hund|moon lune Mond|and et und|door porte Tür
long longue langen|letter lettre Brief|good bon gute|milk lait Milch|then puis dann|under sous unter|table Tisch
of de von
"""
"""Words that mean the same, in English, French and German."""
KINDS = """
Monday Tuesday Wednesday Thursday Friday Saturday Sunday|red blue green grey black white brown
horse goat duck frog bear wolf mouse|apple pear plum grape lemon melon cherry
"""
"""Words of one kind: days, colours, animals, fruit."""
_OTHERS = "0 1 2 3 : . , import def return self class for if not is None to he she her his was said with from this that"
_STORY = "Miss Ad el imba Mar row quist keeper bell tower every Every morning evening opened closed people town had key"


@dataclass(frozen=True)
class Head:
    """What one planted head does.

    Attributes:
        place: layer and head.
        query: parts of the residual stream that it compares...
        key: ...with these, the second of each turned so that order counts; "position" with a number of tokens back.
        back: of a head that attends by position, how far back; 0 for heads that compare.
        value: the part that it moves...
        out: ...to this one.
        rests_at: the score of the start token, as a share of a match's; what matches less is not attended to.
    """

    place: tuple[int, int]
    query: tuple[str, ...] = ("position",)
    key: tuple[str, ...] = ("position",)
    back: int = 0
    value: str = "word"
    out: str = "before"
    rests_at: float = 0.7


def looks_back(place: tuple[int, int], back: int = 1, value: str = "word", out: str = "before") -> Head:
    """A head that brings along something of the token so many places back."""
    return Head(place, back=back, value=value, out=out)


def literal(place: tuple[int, int]) -> Head:
    """An induction head: looks for the same token, and says what followed it."""
    return Head(place, ("word",), ("before",), value="word", out="says")


GPT2_HEADS = (
    looks_back((4, 11)),
    literal((5, 5)),
    literal((6, 9)),
    *(looks_back((2, 2 * back), back, "meaning", f"meaning_{back}") for back in (1, 2, 3)),
    Head((7, 10), ("meaning", "meaning_1"), ("meaning_1", "meaning_2"), value="meaning", out="means"),
    Head((8, 1), ("meaning_1", "meaning_2"), ("meaning_2", "meaning_3"), value="word", out="says", rests_at=1.4),
)
"""A previous-token head and two induction heads, where others found some in GPT-2; three heads that collect meanings;
one that looks for words of the same meaning, L7H10, and one for lines of the same kind, L8H1."""


def save_gpt2(folder: Path, heads: Sequence[Head] = GPT2_HEADS, n_ctx: int = N_CTX) -> None:
    """GPT-2 small's 12 layers of 12 heads, with learned positions and an unembedding of its own."""
    tokenizer = word_tokenizer()
    d_model, d_vocab = 12 * WIDTH, len(tokenizer) + SPARE_ROWS
    config = transformers.GPT2Config(
        n_layer=12,
        n_head=12,
        n_embd=d_model,
        n_inner=8,
        n_positions=n_ctx,
        vocab_size=d_vocab,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    model: Any = transformers.GPT2LMHeadModel(config)
    _clear(model)
    word, meaning = _directions(d_vocab, 0), _meanings(tokenizer, d_vocab)
    embedding = model.transformer.wte.weight.data
    embedding[:, _part("word")], embedding[:, _part("meaning")] = word, meaning
    embedding[0] = 0.0  # so that heads that rest there write nothing
    embedding[0, _REST] = 1.0
    embedding[0, _REST + 1 : _REST + 21] = 0.5 * torch.tensor([1.0, -1.0]).repeat(10)  # as long as other tokens' sums
    model.transformer.wpe.weight.data[:, _part("position")] = _positions(n_ctx)
    model.lm_head.weight.data[:, _part("says")], model.lm_head.weight.data[:, _part("means")] = word, meaning
    known = {"word", "meaning", "position"}
    for head in sorted(heads, key=lambda head: head.place):
        _plant(model.transformer.h[head.place[0]].attn, head, norm=len(known) ** 0.5)
        known |= {head.out} - {"says", "means"}
    _save(model, tokenizer, folder)


def _plant(attention: Any, head: Head, *, norm: float) -> None:
    """Write one head's matrices; `norm` is that of the residual stream that it reads."""
    d_model = 12 * WIDTH
    unit = norm / d_model**0.5  # takes what LayerNorm makes of a part back to length one
    sharp = (SHARP * WIDTH**0.5) ** 0.5
    turns = (torch.eye(WIDTH), _turn())
    reads = torch.zeros(3, d_model, WIDTH)
    for part, turn in zip(head.query, turns, strict=False):
        reads[0, _part(part)] = sharp * unit * turn
    for part, turn in zip(head.key, turns, strict=False):
        reads[1, _part(part)] = sharp * unit * turn
    if head.back:
        reads[0, _part("position")] @= torch.linalg.matrix_power(_step_back(), head.back)
    place = slice(head.place[1] * WIDTH, (head.place[1] + 1) * WIDTH)
    if not head.back:
        reads[1, _REST, -1] = sharp * unit
        attention.c_attn.bias.data[:d_model][place][-1] = sharp * head.rests_at
    reads[2, _part(head.value)] = unit * torch.eye(WIDTH)
    for part in range(3):
        attention.c_attn.weight.data[:, part * d_model :][:, place] = reads[part]
    attention.c_proj.weight.data[place, _part(head.out)] = torch.eye(WIDTH) * (1.0 if head.back else 0.7)


def save_neox(folder: Path, strength: float = 1.0, n_ctx: int = 128) -> None:
    """Two layers of four heads: L0H1 attends to the previous token by its rotation, L1H2 is the induction head.

    Args:
        folder: where to save.
        strength: 0 to 1, of both heads' attention; at 0 it is uniform.
        n_ctx: positions.
    """
    tokenizer = word_tokenizer()
    n_heads, rotary, d_vocab = 4, 8, len(tokenizer) + SPARE_ROWS
    d_head = rotary + WIDTH
    d_model = d_head * n_heads
    config = transformers.GPTNeoXConfig(
        num_hidden_layers=2,
        num_attention_heads=n_heads,
        hidden_size=d_model,
        intermediate_size=48,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary / d_head},
        max_position_embeddings=n_ctx,
        vocab_size=d_vocab,
        use_parallel_residual=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    model: Any = transformers.GPTNeoXForCausalLM(config)
    _clear(model)
    token, before = (slice(place * WIDTH, (place + 1) * WIDTH) for place in (0, 1))
    blocks, scale, vectors = model.gpt_neox, d_model**0.5, _directions(d_vocab, 0)
    blocks.embed_in.weight.data[:, token] = vectors
    model.get_output_embeddings().weight.data[:, token] = 0.4 * vectors
    frequencies = 10000 ** (-torch.arange(0, rotary, 2) / rotary)
    sharp = (strength * SHARP * d_head**0.5) ** 0.5
    looking_back, induction = (blocks.layers[layer].attention for layer in (0, 1))
    # rotated by their positions, these agree best where the key stands one before the query
    looking_back.query_key_value.bias.data.view(n_heads, 3, d_head)[1, 0, : rotary // 2] = 2 * sharp
    turned = torch.cat([frequencies.cos(), frequencies.sin()])
    looking_back.query_key_value.bias.data.view(n_heads, 3, d_head)[1, 1, :rotary] = 2 * sharp * turned
    matches = induction.query_key_value.weight.data.view(n_heads, 3, d_head, d_model)
    matches[2, 0, rotary:, token] = sharp * 2**0.5 / scale * torch.eye(WIDTH)
    matches[2, 1, rotary:, before] = sharp * 2**0.5 / scale * torch.eye(WIDTH)
    for attention, head, writes, gain in ((looking_back, 1, before, 1.0), (induction, 2, token, 3.0)):
        values = attention.query_key_value.weight.data.view(n_heads, 3, d_head, d_model)
        values[head, 2, rotary:, token] = torch.eye(WIDTH)
        place = slice(head * d_head + rotary, (head + 1) * d_head)
        attention.dense.weight.data[writes, place] = gain / scale * torch.eye(WIDTH)
    _save(model, tokenizer, folder)


def save_pythia(folder: Path) -> dict[str, str]:
    """A training under Pythia's name, as the Hugging Face cache and a published run would keep it.

    Returns:
        Settings of the environment with which the notebook finds it, without any network.
    """
    folder = folder.resolve()
    cache, run = folder / "hub", folder / PYTHIA
    repository = cache / f"models--{PYTHIA.replace('/', '--')}"
    commits: dict[str, str] = {}
    for revision, strength in REVISIONS.items():
        commits[revision] = hashlib.sha1(f"stand-in for {PYTHIA} {revision}".encode()).hexdigest()
        save_neox(repository / "snapshots" / commits[revision], strength)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commits[revision], encoding="utf8")
    published = tuple(published_checkpoints(PYTHIA))
    last = repository / "snapshots" / commits["step143000"]
    model, tokenizer = read_configuration(str(last), commits["step143000"], published[-1], torch.float32)
    PublishedRecord(
        repository=PYTHIA,
        dtype="float32",
        published=published,
        chosen=tuple(checkpoint.step for checkpoint in published if checkpoint.revision in commits),
        commits=commits,
        model={**model, "model_name": PYTHIA},
        tokenizer=keep_tokenizer(tokenizer, run),
        n_bytes=(last / "model.safetensors").stat().st_size,
    ).write(run)
    (run / "STAND_IN.txt").write_text(ABOUT, encoding="utf8")
    return {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "IH_LENS_DEMO_FOLDER": str(run),
        "IH_LENS_DEMO_REVISIONS": ",".join(commits),
    }


def byte_level_tokenizer(
    texts: Sequence[str], *, n_tokens: int, start: str | None = "<|endoftext|>", adds_start: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's and Pythia's, with or without a start token of its own.

    Args:
        texts: to train it on.
        n_tokens: ids in all, or as many as the texts have merges for.
        start: the special token that starts, ends and pads, id 0; without one there is `<|endoftext|>` that only
            ends, as with Qwen.
        adds_start: prepend it to every text, as Llama 3's does.
    """
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = start or "<|endoftext|>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=n_tokens, special_tokens=[special], initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(texts, trainer)
    if adds_start:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{special} $A", pair=f"{special} $A {special} $B", special_tokens=[(special, 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=start, eos_token=special, pad_token=special)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One to which the words listed here are single tokens, after a space and without one; other text is bytes."""
    words = " ".join([TRANSLATIONS, KINDS]).replace("|", " ").split()
    forms = [form for word in words for form in _forms(word)]
    others = [form for word in (_OTHERS + " " + _STORY).split() for form in (word, f" {word}")]
    return byte_level_tokenizer([*forms, *others] * 4, n_tokens=2000)


def _meanings(tokenizer: PreTrainedTokenizerFast, d_vocab: int) -> Float[Tensor, "d_vocab width"]:
    """A random direction per token, the same for words that mean the same or are of one kind."""
    directions = _directions(d_vocab, 1)
    ids: Mapping[str, int] = {str(tokenizer.decode([ident])): ident for ident in range(len(tokenizer))}
    for group in [*TRANSLATIONS.replace("\n", "|").split("|"), *KINDS.replace("\n", "|").split("|")]:
        forms = [form for word in group.split() for form in _forms(word)]
        known = [ids[form] for form in forms if form in ids]
        directions[known] = directions[known[:1]]
    return directions


def _forms(word: str) -> tuple[str, ...]:
    """As it stands within a text and at its beginning, in small letters and with a capital."""
    return word, word.capitalize(), f" {word}", f" {word.capitalize()}"


def _part(name: str) -> slice:
    """A part's place in the residual stream."""
    start = _PARTS.index(name) * WIDTH
    return slice(start, start + WIDTH)


def _directions(n: int, seed: int) -> Float[Tensor, "n width"]:
    """Random directions of length one whose numbers sum to 0; the last number is 0."""
    drawn = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))
    drawn[:, -1] = 0
    drawn[:, :-1] -= drawn[:, :-1].mean(dim=-1, keepdim=True)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def _turn() -> Float[Tensor, "width width"]:
    """A random rotation that leaves the last number alone."""
    drawn = torch.randn(WIDTH - 1, WIDTH - 1, generator=torch.Generator().manual_seed(2))
    return torch.block_diag(torch.linalg.qr(drawn)[0], torch.eye(1))


_FREQUENCIES = torch.linspace(0.3, 3.0, WIDTH // 2)


def _positions(n_ctx: int) -> Float[Tensor, "pos width"]:
    """Waves of several lengths, of length one together."""
    angles = torch.arange(n_ctx)[:, None] * _FREQUENCIES
    return torch.cat([angles.cos(), angles.sin()], dim=-1) / (WIDTH // 2) ** 0.5


def _step_back() -> Float[Tensor, "width width"]:
    """Takes each position's waves to those of the one before."""
    cos, sin = _FREQUENCIES.cos().diag(), _FREQUENCIES.sin().diag()
    return torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])


def _clear(model: PreTrainedModel) -> None:
    """Everything zero but the gains of the norms, which are one."""
    for name, parameter in model.named_parameters():
        gain = parameter.ndim == 1 and name.endswith("weight")
        parameter.data.fill_(1.0 if gain else 0.0)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "STAND_IN.txt").write_text(ABOUT, encoding="utf8")


def main(arguments: Sequence[str]) -> int:
    """Make the stand-in that is asked for, and say how to use it."""
    if len(arguments) != 2 or arguments[0] not in ("gpt2", "pythia"):
        print(__doc__, file=sys.stderr)
        return 2
    transformers.utils.logging.disable_progress_bar()
    kind, folder = arguments[0], Path(arguments[1])
    if folder.exists():
        print(f"{folder} exists; name a new folder", file=sys.stderr)
        return 2
    if kind == "gpt2":
        save_gpt2(folder)
        settings = {"IH_LENS_DEMO_MODEL": str(folder.resolve())}
    else:
        settings = save_pythia(folder)
    print("The notebooks run on it where Jupyter is started with")
    for name, value in settings.items():
        print(f"export {name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

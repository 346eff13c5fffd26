"""What `ih-lens train` makes of its words: a corpus, models, a training configuration."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from ih_lens.data.corpus import Corpus
from ih_lens.data.restart_cycle import RestartCycle
from ih_lens.data.token_corpus import TokenCorpus
from ih_lens.errors import InputError
from ih_lens.models.config import Positions, attention_only, with_mlps
from ih_lens.models.series import SCALES, SERIES, ModelSpec
from ih_lens.training.config import Precision, TrainConfig
from ih_lens.training.schedule import SnapshotSchedule, at_steps, every, powers_of_two
from ih_lens.validate import at_least, one_of


def corpus(word: str, n_ctx: int) -> Corpus:
    """`restart-cycle`, or the token file in a folder, cut into examples of `n_ctx` tokens."""
    if word == "restart-cycle":
        return RestartCycle()
    if not Path(word).is_dir():
        raise InputError(
            f"corpus: {word!r} is neither restart-cycle nor a folder; make one with `ih-lens tokens TEXT --out {word}`"
        )
    return TokenCorpus(word, n_ctx)


def own_models(
    layers: Sequence[int], data: Corpus, mlps: bool, smeared_keys: bool, options: Mapping[str, Any]
) -> list[ModelSpec]:
    """One model per number of layers, of a size that fits the corpus."""
    build, kind = (with_mlps, "with_mlps") if mlps else (attention_only, "attention_only")
    one_of("--positions", str(options["positions"]), get_args(Positions))
    name = f"{kind}_smeared" if smeared_keys else kind
    sizes: dict[str, Any] = {**options, "d_vocab": data.d_vocab, "n_ctx": data.n_pos}
    return [ModelSpec(f"{name}_{n}L", build(n, **sizes), smeared_keys) for n in layers]


def models_of_series(series: str, scale: str, chosen: str | None, data: Corpus) -> list[ModelSpec]:
    """Models of one of the paper's series, with vocabulary and context of the corpus."""
    one_of("--series", series, list(SERIES))
    specs = {spec.name: spec for spec in SERIES[series].build(one_of("--scale", scale, SCALES))}  # pyright: ignore[reportArgumentType]
    names = list(specs) if chosen is None else [one_of("--models", name, list(specs)) for name in chosen.split(",")]
    sizes = {"d_vocab": data.d_vocab, "d_vocab_out": data.d_vocab, "n_ctx": data.n_pos}
    return [dataclasses.replace(specs[name], cfg=dataclasses.replace(specs[name].cfg, **sizes)) for name in names]


def schedule(words: str) -> SnapshotSchedule:
    """`every:50`, `powers:5:17` or `0,10,100`.

    Raises:
        InputError: for anything else.

    Examples:
        >>> schedule("powers:5:7").steps(300)
        [0, 32, 64, 128, 300]
    """
    kind, *numbers = words.split(":")
    try:
        if kind == "every" and len(numbers) == 1:
            return every(int(numbers[0]))
        if kind == "powers" and len(numbers) == 2:
            return powers_of_two(int(numbers[0]), int(numbers[1]))
        return at_steps([int(step) for step in words.split(",")])
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--snapshots: expected every:N, powers:FIRST:LAST or steps such as 0,10,100; got {words!r}"
        ) from error


def config(train_tokens: int, n_pos: int, snapshots: str, **settings: Any) -> TrainConfig:
    """A training of whole steps, on examples of `n_pos` tokens."""
    n_steps = train_tokens // (at_least("--batch-size", settings["batch_size"], 1) * n_pos)
    if n_steps < 1:
        raise InputError("--train-tokens: less than one step; give more tokens or a smaller --batch-size")
    one_of("--precision", settings["precision"], get_args(Precision))
    return TrainConfig(n_steps=n_steps, snapshots=schedule(snapshots), **settings)

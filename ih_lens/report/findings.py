"""What a table shows, in plain sentences: each with its numbers, and saying the opposite where the numbers do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import xarray as xr

from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.errors import InputError
from ih_lens.report.joint_ablation import induction_heads
from ih_lens.report.model_data import description_of, joint_ablation_of, phase_change_of, values_of
from ih_lens.report.summary import kind_of_model, tokens_text
from ih_lens.report.table import ModelAnalysisTable


@dataclass(frozen=True)
class ModelFacts:
    """The numbers of one model's last snapshot that sentences are made of.

    Attributes:
        kind: layers and architecture in words, the same for all seeds.
        plain_kind: the same without smeared keys.
        one_layer: whether it has one layer and no smeared keys.
        smeared: whether it has smeared keys.
        seed: of its weights, None where unknown.
        n_induction_heads: how many there are.
        prefix_matching: the highest score of any head.
        score: in-context learning score in nats, with its standard error `stderr`.
        change: the phase change, in tokens elapsed.
        left_together: share of the score that is left without all induction heads; None where nothing was ablated.
        left_single: share that is left without the single induction head that matters most; None for fewer than two.
    """

    kind: str
    plain_kind: str
    one_layer: bool
    smeared: bool
    seed: int | None
    n_induction_heads: int
    prefix_matching: float
    score: float
    stderr: float
    change: PhaseChange
    left_together: float | None
    left_single: float | None

    @property
    def middle(self) -> float | None:
        """Tokens elapsed in the middle of the phase change, None if there is none."""
        start, end = self.change.start, self.change.end
        return None if start is None or end is None else (start + end) / 2


def findings(table: ModelAnalysisTable) -> list[str]:
    """Sentences about what grew when, and what it does, from the numbers of a table alone.

    Models that differ only in seed stand in one sentence, with one number per seed.

    Raises:
        InputError: if the table has no in-context learning scores.

    Examples:
        >>> for sentence in findings(table):
        ...     print(sentence)
    """
    kind = table.record["settings"]["ablation"]
    facts = [_facts(dataset, kind) for dataset in table.datasets.values()]
    groups = {name: list(members) for name, members in groupby(sorted(facts, key=_order), key=lambda model: model.kind)}
    sentences = [_heads_and_score(members) for members in groups.values()]
    sentences += [_phase_change(members) for members in groups.values()]
    for members in groups.values():
        sentences += _smearing(members, groups.get(members[0].plain_kind, []))
        sentences += _together(members, kind)
    return sentences + list(_one_layer(facts)) + list(_tally(facts))


def _facts(dataset: xr.Dataset, ablation: str) -> ModelFacts:
    model, scores, joint = description_of(dataset), values_of(dataset, "in_context_learning_score"), None
    if scores is None:
        raise InputError("the table has no row in_context_learning_score; make it with rows=PAPER_ROWS")
    joint = joint_ablation_of(dataset)
    removed = None if joint is None else joint["share_removed"].sel(kind=ablation).to_numpy()
    kind = kind_of_model(dataset)
    return ModelFacts(
        kind=kind,
        plain_kind=kind.removesuffix(", smeared keys"),
        one_layer=model["n_layers"] == 1 and not model["smeared_keys"],
        smeared=model["smeared_keys"],
        seed=model["seed"],
        n_induction_heads=len(induction_heads(dataset["head_type"])),
        prefix_matching=float(dataset["prefix_matching"].isel(snapshot=-1).max()),
        score=float(scores[-1]),
        stderr=float(scores["stderr"][-1]),
        change=phase_change_of(dataset),
        left_together=None if removed is None else 1 - float(removed[-1]),
        left_single=None if removed is None or len(removed) < 2 else 1 - float(removed[:-1].max()),
    )


def _order(model: ModelFacts) -> tuple[bool, str, bool, int]:
    """Attention-only before MLPs, fewer layers first, plain before smeared, seeds ascending."""
    return ("MLP" in model.kind, model.plain_kind, model.smeared, -1 if model.seed is None else model.seed)


def _label(members: Sequence[ModelFacts]) -> str:
    """The kind with its seeds."""
    seeds = [str(model.seed) for model in members if model.seed is not None]
    if len(seeds) != len(members):
        return members[0].kind
    return f"{members[0].kind} (seed{'' if len(seeds) == 1 else 's'} {', '.join(seeds)})"


def _heads_and_score(members: Sequence[ModelFacts]) -> str:
    counts = [model.n_induction_heads for model in members]
    highest = _listed(f"{model.prefix_matching:.2f}" for model in members)
    scores = _listed(f"{model.score:.2f} ± {model.stderr:.2f}" for model in members)
    heads = (
        "no induction head" if not any(counts) else f"{_listed(map(str, counts))} {_plural('induction head', counts)}"
    )
    return f"{_label(members)}: {heads} (highest prefix matching {highest}); in-context learning score {scores} nats."


def _phase_change(members: Sequence[ModelFacts]) -> str:
    found = [model for model in members if model.change.found]
    if not found:
        reasons = "; ".join(dict.fromkeys(model.change.reason for model in members))
        return f"{_label(members)}: no phase change ({reasons})."
    among = "" if len(found) == len(members) else f" in {len(found)} of {len(members)}"
    alone = (
        ""
        if any(model.n_induction_heads for model in members)
        else ", without any induction head: a gain of its own kind"
    )
    return f"{_label(members)}: phase change{among} at {_spans(found)} tokens{alone}."


def _smearing(smeared: Sequence[ModelFacts], plain: Sequence[ModelFacts]) -> Iterator[str]:
    """What smeared keys do to a model: heads that form only with them, or earlier or later."""
    if not plain or not smeared[0].smeared:
        return
    with_heads, without = ([model for model in group if model.n_induction_heads] for group in (smeared, plain))
    what = f"Smeared keys, {plain[0].kind}"
    tally = f"{len(with_heads)} of {len(smeared)} with them, {len(without)} of {len(plain)} without"
    yield f"{what}: induction heads in {tally}."
    pairs = [
        (mine, theirs)
        for mine in with_heads
        for theirs in without
        if mine.seed == theirs.seed and mine.middle is not None and theirs.middle is not None
    ]
    if pairs:
        earlier = sum(mine.middle < theirs.middle for mine, theirs in pairs if mine.middle and theirs.middle)
        mine, theirs = ([pair[place] for pair in pairs] for place in (0, 1))
        word = (
            "earlier"
            if earlier == len(pairs)
            else "not earlier"
            if not earlier
            else f"earlier in {earlier} of {len(pairs)}"
        )
        yield f"{what}: phase change at {_spans(mine)} tokens, {word} than without, at {_spans(theirs)}."


def _together(members: Sequence[ModelFacts], kind: str) -> Iterator[str]:
    """What is left of in-context learning without the induction heads."""
    ablated = [model for model in members if model.left_together is not None]
    if not ablated:
        return
    counts = [model.n_induction_heads for model in ablated]
    together = _listed(f"{model.left_together:.0%}" for model in ablated)
    singles = [f"{model.left_single:.0%}" for model in ablated if model.left_single is not None]
    best = f"; the one that matters most, alone, leaves {_listed(singles)}" if singles else ""
    yield (
        f"{_label(ablated)}: ablating all {_listed(map(str, counts))} {_plural('induction head', counts)} together "
        f"({kind.replace('_', '-')}) leaves {together} of the in-context learning score{best}."
    )


def _one_layer(facts: Sequence[ModelFacts]) -> Iterator[str]:
    """The plain one-layer models beside all others."""
    one, others = ([model for model in facts if model.one_layer is wanted] for wanted in (True, False))
    if one and others:
        most, least = min(model.score for model in one), max(model.score for model in others)
        if least < 0:
            yield (
                f"Plain one-layer models: in-context learning score down to {most:.2f} nats, {most / least:.2f} of the "
                f"weakest of all others ({least:.2f} nats)."
            )
        else:
            yield f"The weakest of the deeper or smeared models shows no in-context learning ({least:.2f} nats)."


def _tally(facts: Sequence[ModelFacts]) -> Iterator[str]:
    """How many models show what."""
    for wanted, what in ((False, "Deeper or smeared models"), (True, "Plain one-layer models")):
        group = [model for model in facts if model.one_layer is wanted]
        if group:
            heads = sum(model.n_induction_heads > 0 for model in group)
            changes = sum(model.change.found for model in group)
            yield f"{what}: {heads} of {len(group)} have induction heads, {changes} of {len(group)} a phase change."


def _spans(models: Sequence[ModelFacts]) -> str:
    spans = [(model.change.start, model.change.end) for model in models]
    return _listed(
        f"{tokens_text(start)}-{tokens_text(end)}" for start, end in spans if start is not None and end is not None
    )


def _listed(texts: "Iterator[str] | Sequence[str]") -> str:
    return ", ".join(texts)


def _plural(noun: str, counts: Sequence[int]) -> str:
    return noun if list(counts) == [1] else f"{noun}s"

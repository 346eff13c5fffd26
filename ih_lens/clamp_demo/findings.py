"""What the trainings under clamps showed, in sentences, beside what the paper reports."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ih_lens.clamp_demo import cycle, exemplars
from ih_lens.clamp_demo.cycle import CycleResults
from ih_lens.clamp_demo.exemplars import ExemplarResults
from ih_lens.clamp_demo.wording import agreement, by_seed, earlier, numbers_text, steps_text


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        about: what is clamped, on which task.
        paper: what Singh et al. 2024 report, on their task; empty where they have nothing of the kind.
        measured: what was found here, one number per seed.
    """

    about: str
    paper: str
    measured: str


_FREE_STEPS = "about 3.2e5 sequences to the threshold (figure 5, one head of layer 1, one seed)"


def cycle_findings(found: CycleResults) -> list[Finding]:
    """RestartCycle."""
    times = {name: by_seed(found.times, name) for name in dict.fromkeys(found.times["condition"])}
    still = {name: by_seed(found.times, name, "plateau") for name in times}
    free = times[cycle.FREE]
    previous, match, forbidden = (times[name] for name in (cycle.PREVIOUS, cycle.MATCH, cycle.FORBIDDEN))
    return [
        Finding(
            "RestartCycle, free",
            f"a plateau, then a sudden fall: {_FREE_STEPS}",
            f"loss below {found.threshold:.2f} nats: {steps_text(free)}; longest plateau "
            f"{steps_text(still[cycle.FREE])}",
        ),
        Finding(
            "RestartCycle, A: one head attends to the previous token",
            "about 2.2e5 sequences, 0.7 of the free training (figure 5); in other seeds it helps, or does not",
            f"{steps_text(previous)}: {earlier(previous, free)}; longest plateau {steps_text(still[cycle.PREVIOUS])}",
        ),
        Finding(
            "RestartCycle, B: one head of layer 1 matches",
            "about 0.35e5 sequences, no plateau (figure 5)",
            f"{steps_text(match)}: {earlier(match, free)}; longest plateau {steps_text(still[cycle.MATCH])}",
        ),
        Finding(
            "RestartCycle, layer 0 may not attend to the previous token",
            "",
            f"{steps_text(forbidden)}: learned {agreement([not np.isnan(step) for step in forbidden])}",
        ),
        _release(found),
        *_race(found, times),
    ]


def _release(found: CycleResults) -> Finding:
    ends = {name: by_seed(found.ends, name, "clamped") for name in dict.fromkeys(found.ends["condition"])}
    let_go = {name: by_seed(found.ends, name, "released") for name in ends}
    return Finding(
        "RestartCycle, clamps taken off the trained models",
        "",
        f"loss with the clamp and without it: A {numbers_text(ends[cycle.PREVIOUS])} and "
        f"{numbers_text(let_go[cycle.PREVIOUS])}; B {numbers_text(ends[cycle.MATCH])} and "
        f"{numbers_text(let_go[cycle.MATCH])}; let go in the middle of the training, A is learned again within "
        f"{steps_text(found.relearned)}, to {numbers_text(let_go[cycle.RELEASED])} at the end (free: "
        f"{numbers_text(let_go[cycle.FREE])})",
    )


def _race(found: CycleResults, times: dict[str, list[float]]) -> list[Finding]:
    groups = dict(iter(found.race.groupby("group", sort=False)))
    seeds = list(dict.fromkeys(found.race["seed"]))
    whole = _of_seeds(groups["one of layer 1 left"].query("condition == 'all'"), seeds, "min")
    without, only = groups["one of layer 1 taken out"], groups["one of layer 1 left"].query("condition != 'all'")
    back = groups["layer 1 added back"]
    steps = list(dict.fromkeys(back["condition"]))
    additions = "; ".join(f"{name} {numbers_text(by_seed(back, name, 'loss'))}" for name in steps)
    below = groups["one of layer 0 taken out"]
    alone = {name: values for name, values in times.items() if name.startswith("only ")}
    every = [step for values in alone.values() for step in values]
    free = times[cycle.FREE]
    later = [not step <= free[place % len(free)] for place, step in enumerate(every)]
    return [
        Finding(
            "RestartCycle, heads of layer 1 at test time",
            "any one of eight can be ablated at no cost in accuracy; single heads alone reach 0.29 to 0.98 (figure 4); "
            "losses fall with each head that is added back (figure 14)",
            f"loss of the whole model {numbers_text(whole)}; at worst {numbers_text(_of_seeds(without, seeds, 'max'))} "
            f"without one head; {numbers_text(_of_seeds(only, seeds, 'min'))} to "
            f"{numbers_text(_of_seeds(only, seeds, 'max'))} with one alone; added back: {additions}",
        ),
        Finding(
            "RestartCycle, heads of layer 0 at test time",
            "",
            f"without the head that matters most {numbers_text(_of_seeds(below, seeds, 'max'))}, without the one that "
            f"matters least {numbers_text(_of_seeds(below, seeds, 'min'))}",
        ),
        Finding(
            "RestartCycle, trained with one head of layer 1",
            "each of eight learns alone, in 1.2 to 2.4 times the sequences that all together need (figure 4)",
            "; ".join(f"{name} {steps_text(values)}" for name, values in alone.items())
            + f"; later than all heads together, or never, in {sum(later)} of {len(later)} trainings",
        ),
    ]


def _of_seeds(losses: pd.DataFrame, seeds: Sequence[int], how: str) -> list[float]:
    """The lowest or highest loss of each seed."""
    return [float(losses.loc[losses["seed"] == seed, "loss"].agg(how)) for seed in seeds]


def exemplar_findings(found: ExemplarResults) -> list[Finding]:
    """The exemplar-label task."""
    times = {name: by_seed(found.times, name) for name in dict.fromkeys(found.times["condition"])}
    still = {name: by_seed(found.times, name, "plateau") for name in times}
    free = times[exemplars.ONE_HEAD]
    paper = {
        exemplars.ALL_HEADS: "about 2.6e5 sequences to the threshold with all heads (figure 4)",
        exemplars.ONE_HEAD: _FREE_STEPS,
        exemplars.PREVIOUS: "about 2.2e5 sequences (figure 5); it helps in some seeds, and in one it does not",
        exemplars.LAYER: "about 0.8e5 sequences, at first worse than without (figure 5)",
        exemplars.MATCH: "about 0.35e5 sequences, no plateau (figure 5)",
        exemplars.COPY: "about 0.4e5 sequences, no plateau (figure 5)",
        exemplars.LAYER_AND_COPY: "about 0.3e5 sequences, no plateau (figure 5)",
    }
    lines = []
    for name, reported in paper.items():
        against = "" if name == exemplars.ONE_HEAD else f": {earlier(times[name], free)} than free with one head"
        measured = f"{steps_text(times[name])}{against}; longest plateau {steps_text(still[name])}"
        lines.append(Finding(f"Exemplars and labels, {name}", reported, measured))
    return [*lines, _ends(found), *_dissociation(found)]


def _ends(found: ExemplarResults) -> Finding:
    ends = found.ends
    strengths = ends[[name for name in ends if name.startswith("head ")]]
    return Finding(
        "Exemplars and labels, free with all heads, at the end",
        "loss 0.002 in training, 0.03 on new pairs of labels; strongest head 0.85, weakest 0.10 (figure 3, seed 5)",
        f"loss {numbers_text(list(ends['loss']), 3)}, on new pairs of labels "
        f"{numbers_text(list(ends['new_pairs_loss']), 3)}; induction strength of the strongest head "
        f"{numbers_text(list(strengths.max(axis=1)))}, of the weakest {numbers_text(list(strengths.min(axis=1)))}",
    )


def _dissociation(found: ExemplarResults) -> list[Finding]:
    """One line per property: how both parts' learning times grow from its smallest to its largest value."""
    lines = []
    for varied, of_property in found.dissociation.groupby("varied", sort=False):
        numbers = list(dict.fromkeys(of_property["number"]))
        texts, growth = [], {}
        for part, of_part in of_property.groupby("condition", sort=False):
            steps = {number: list(of_part.loc[of_part["number"] == number, "step"]) for number in numbers}
            growth[part] = [last / first for first, last in zip(steps[numbers[0]], steps[numbers[-1]], strict=True)]
            by_number = "; ".join(f"{number}: {steps_text(steps[number])}" for number in numbers)
            texts.append(f"{part}: {by_number}, grown by {numbers_text(growth[part])}")
        copy, match = growth.values()
        slower = [a > b if varied == "labels" else b > a for a, b in zip(copy, match, strict=True)]
        slowed = "copy" if varied == "labels" else "match"
        lines.append(
            Finding(
                f"Exemplars and labels, more {varied}",
                f"more {varied} slow the {slowed}",
                f"{'. '.join(texts)}. The {slowed} is slowed more {agreement(slower)}",
            )
        )
    return lines


def toy_finding(times: dict[str, float]) -> Finding:
    """The three-factor toy model."""
    told = "; ".join(f"{name} {steps_text([step])}" for name, step in times.items())
    in_order = sorted(times, key=lambda name: times[name])
    return Finding(
        "Three-factor toy model",
        "the more factors are clamped, the sooner it learns, and the less of a plateau there is",
        f"steps to a tenth of the first loss: {told}; from first to last: {', '.join(in_order)}",
    )

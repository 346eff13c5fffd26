"""What a table says of each model, as short lines with their numbers."""

from collections.abc import Mapping
from html import escape

import xarray as xr

from ih_lens.report.joint_ablation import induction_heads
from ih_lens.report.model_data import description_of, joint_ablation_of, phase_change_of, values_of

_MANY = 8


def tokens_text(n_tokens: int | float) -> str:
    """A number of tokens with three digits.

    Examples:
        >>> tokens_text(312_000), tokens_text(0)
        ('312k', '0')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n_tokens >= size:
            return f"{n_tokens / size:.3g}{unit}"
    return f"{n_tokens:.0f}"


def kind_of_model(dataset: xr.Dataset) -> str:
    """Layers and architecture in words, the same for all seeds."""
    model = description_of(dataset)
    layers = f"{model['n_layers']} layer{'' if model['n_layers'] == 1 else 's'}"
    mlps = "" if model["attention_only"] else " with MLPs"
    return f"{layers}{mlps}{', smeared keys' if model['smeared_keys'] else ''}"


def architecture_lines(dataset: xr.Dataset) -> list[str]:
    """What the model is, and how far its training went."""
    model = description_of(dataset)
    lines = [kind_of_model(dataset), f"{model['n_heads']} heads per layer, d_model {model['d_model']}"]
    if model["seed"] is not None:
        lines.append(f"seed {model['seed']}")
    if not model["finished"]:
        last = int(dataset["step"][-1])
        lines.append(f"unfinished: measured up to step {last:,} of {model['n_steps']:,}")
    if model.get("n_missing"):
        lines.append(f"{model['n_missing']} of {model['n_missing'] + model['n_snapshots']} snapshots are missing")
    return lines


def score_text(dataset: xr.Dataset) -> str:
    """The last snapshot's in-context learning score with its standard error."""
    scores = values_of(dataset, "in_context_learning_score")
    if scores is None:
        return "not measured"
    last = scores.isel(snapshot=-1)
    return f"{float(last):.2f} ± {float(last['stderr']):.2f} nats"


def phase_change_text(dataset: xr.Dataset) -> str:
    """Where the phase change lies, or why there is none."""
    change = phase_change_of(dataset)
    if change.start is None or change.end is None:
        return f"none found: {change.reason}"
    return f"{tokens_text(change.start)} to {tokens_text(change.end)} tokens, {change.share:.0%} of the final score"


def induction_heads_text(dataset: xr.Dataset) -> str:
    """How many induction heads there are, and which."""
    heads = induction_heads(dataset["head_type"])
    highest = dataset["prefix_matching"].isel(snapshot=-1)
    if not heads:
        return f"none; highest prefix matching {float(highest.max()):.2f}"
    named = ", ".join(map(str, heads[:_MANY])) + (f" and {len(heads) - _MANY} more" if len(heads) > _MANY else "")
    return f"{len(heads)}: {named}"


def joint_ablation_text(dataset: xr.Dataset) -> str:
    """What is left of in-context learning without the induction heads, per kind of ablation."""
    joint = joint_ablation_of(dataset)
    if joint is None:
        return "nothing to ablate, or not measured"
    parts = []
    for kind in joint["kind"].to_numpy():
        removed = joint["share_removed"].sel(kind=kind)
        together = f"{float(removed[-1]):.0%}"
        best = f" (best single one: {float(removed[:-1].max()):.0%})" if removed.sizes["group"] > 1 else ""
        parts.append(f"{kind.replace('_', '-')} {together}{best}")
    return "; ".join(parts)


SUMMARY_LINES = {
    "phase change": phase_change_text,
    "in-context learning score": score_text,
    "induction heads": induction_heads_text,
    "score removed by ablating all of them": joint_ablation_text,
}
"""What stands in the summary of a model, by heading."""


def summary_html(datasets: Mapping[str, xr.Dataset]) -> str:
    """A small table for notebooks: a row per model."""
    heads = "".join(f"<th>{escape(heading)}</th>" for heading in ("model", *SUMMARY_LINES))
    rows = ""
    for name, dataset in datasets.items():
        cells = [
            f"{name} ({', '.join(architecture_lines(dataset))})",
            *(text(dataset) for text in SUMMARY_LINES.values()),
        ]
        rows += f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"

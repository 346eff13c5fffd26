"""What the examples in docstrings take as given, beside the prepared names of all pages, and what they leave open."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
import xarray as xr

import ih_lens as ih
from tests.docs_names import Prepared

Give = Callable[[Prepared], Any]


def _over_training(place: int) -> Give:
    """Every loss of one of the prepared runs, over its snapshots."""

    def give(prepared: Prepared) -> ih.TokenLosses:
        run = prepared["runs"][place]
        evals = ih.EvalSet.from_tokens(prepared["runs"][1].held_out)
        measured = [ih.token_losses(snapshot.load(), evals, keep="all") for snapshot in run.snapshots]
        steps = [snapshot.step for snapshot in run.snapshots]
        return ih.stack_snapshots(measured, steps, [snapshot.tokens_elapsed for snapshot in run.snapshots])

    return give


def _after_ablations(prepared: Prepared) -> ih.AblationLosses:
    run = prepared["run"]
    return ih.ablate_heads(run.snapshots[-1].load(), ih.EvalSet.from_tokens(run.held_out))


def _scores_over_training(prepared: Prepared) -> ih.HeadScores:
    snapshots = prepared["run"].snapshots
    measured = [ih.score_heads(snapshot.load()) for snapshot in snapshots]
    return ih.stack_snapshots(measured, [s.step for s in snapshots], [s.tokens_elapsed for s in snapshots])


def _view(prepared: Prepared) -> ih.InductionView:
    return ih.induction_view(prepared["model"], prepared["tokens"][0, :64])


def _twice(prepared: Prepared) -> ih.TokenLosses:
    """Losses at 512 tokens as if over training."""
    return ih.stack_snapshots([prepared["losses"]] * 2, [0, 1], [0, 2048])


def _curve(prepared: Prepared) -> xr.DataArray:
    """An in-context learning score with a phase change, [snapshot]."""
    steps = np.arange(0, 1001, 50)
    score = xr.DataArray(-1.5 / (1 + np.exp((450 - steps) / 30)), dims="snapshot")
    return score.assign_coords(step=("snapshot", steps), stderr=("snapshot", np.full(len(steps), 0.01)))


def _frame(**columns: list[Any]) -> Give:
    return lambda prepared: pd.DataFrame(columns)


def _one(place: int) -> Give:
    """Losses of one snapshot of the prepared run, [example]."""

    def give(prepared: Prepared) -> ih.TokenLosses:
        run = prepared["run"]
        return ih.token_losses(run.snapshots[place].load(), ih.EvalSet.from_tokens(run.held_out))

    return give


def _last_scores(prepared: Prepared) -> ih.HeadScores:
    return ih.score_heads(prepared["run"].snapshots[-1].load())


def _losses_of_many(prepared: Prepared) -> ih.TokenLosses:
    """Losses of enough examples for intervals."""
    tokens = torch.cat([prepared["tokens"], prepared["tokens"].flip(1)])
    return ih.token_losses(prepared["model"], ih.EvalSet.from_tokens(tokens))


def _at_both_indices(measure: Callable[..., Any]) -> Give:
    """Losses of a measure whose examples can be told apart at two context indices."""

    def give(prepared: Prepared) -> Any:
        model = prepared["run"].snapshots[-1].load()
        return measure(model, _held_out(prepared), at_indices=(5, 47))

    return give


def _held_out(prepared: Prepared) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(prepared["run"].held_out)


def _loops(prepared: Prepared) -> xr.Dataset:
    prompts = ih.random_tokens(prepared["model"], length=8, n_examples=4)
    return ih.generation_loops(prepared["model"], prompts, ["L5H1"], n_new=4, n_draws=1)


_PAIRED = {"ablated": _at_both_indices(ih.ablate_heads), "losses": _at_both_indices(ih.token_losses)}
_LEARNED = _frame(condition=["free", "given"], seed=[0, 0], step=[500.0, 300.0])
LOSSES: dict[str, Give] = {"losses": _over_training(1), "evals": _held_out}
EXEMPLARS: dict[str, Give] = {
    "task": lambda prepared: ih.ExemplarLabels(n_classes=20),
    "cfg": lambda prepared: ih.exemplar_model(ih.ExemplarLabels(n_classes=20), d_model=16, n_heads=4),
    "model": lambda prepared: ih.build_model(ih.exemplar_model(ih.ExemplarLabels(n_classes=20)), seed=0),
    "config": lambda prepared: ih.TrainConfig(n_steps=2, batch_size=2, lr=1e-3),
}
CYCLE: dict[str, Give] = {
    "cfg": lambda prepared: ih.attention_only(2, d_model=16, n_heads=4, d_vocab=32, n_ctx=48),
    "config": lambda prepared: ih.TrainConfig(n_steps=2, batch_size=2, lr=1e-3, n_held_out=2),
    "run": lambda prepared: prepared["run"],
}
FEW: dict[str, Give] = {"evals": lambda prepared: ih.EvalSet.from_tokens(prepared["tokens"][:2, :32])}
VIEW: dict[str, Give] = {"view": _view}
READS_TEXT: dict[str, Give] = {"model": lambda prepared: prepared["gpt2"]}
BEHAVIOURS: dict[str, Give] = {"table": lambda prepared: prepared["behaviours"]}
OTHERS: dict[str, Give] = {"others": lambda prepared: prepared["scores"]}
PAIR: dict[str, Give] = {"losses_1": _over_training(0), "losses_2": _over_training(1)}
SLOPES: dict[str, Give] = {
    "models": lambda prepared: {"1L": _over_training(0)(prepared), "2L": _over_training(1)(prepared)},
    "n_parameters": lambda prepared: {"1L": 1e6, "2L": 2e6},
}

GIVEN: dict[str, dict[str, Give]] = {
    "ModelAnalysisTable.from_runs": {
        "run_1": lambda prepared: prepared["run"],
        "run_2": lambda prepared: prepared.run(2, "2L again", seed=1),
    },
    "Snapshot.load": {"tokens": lambda prepared: prepared["run"].held_out},
    "attribution_to_before_and_after": {
        "ablated": _after_ablations,
        "losses": _one(-1),
        "vector": lambda prepared: ih.before_and_after_vector(_one(0)(prepared), _one(-1)(prepared)),
    },
    "attribution_to_in_context_learning": {"ablated": _after_ablations, "losses": _one(-1)},
    "before_and_after_vector": {
        "losses": lambda prepared: [_one(0)(prepared), _one(-1)(prepared)],
        "change": lambda prepared: SimpleNamespace(start_index=0, end_index=1),
    },
    "Estimate.confidence_interval": {
        "effect": lambda prepared: ih.ablation_effects(*(make(prepared) for make in _PAIRED.values()))
    },
    "ablation_effects": _PAIRED,
    "in_context_learning_estimate": {"losses": _losses_of_many},
    **dict.fromkeys(("BehaviourTable.to_dataframe", "BehaviourTable.top"), BEHAVIOURS),
    **dict.fromkeys(("BehaviourTable", "LiteralCopying", "score_behaviours", "viz.plot_behaviours"), READS_TEXT),
    "in_context_learning_score": {"losses": _one(-1)},
    "in_context_learning_difference": {"plain": _one(0), "smeared": _one(-1)},
    "loss_difference": {"losses": _over_training(1), "losses_of_one_layer": _over_training(0)},
    "loss_derivative_order": {
        "derivatives": lambda prepared: {
            name: ih.loss_token_derivative(_over_training(place)(prepared))
            for name, place in (("1L", 0), ("2L", 1), ("4L", 1))
        }
    },
    "perfected_losses": {"evals": _held_out},
    "phase_change": {"score": _curve},
    "repeated_random_tokens": {"model": lambda prepared: ih.load_model("gpt2")},
    "restart_cycle_references": {"task": lambda prepared: ih.RestartCycle()},
    "score_agreement": {"scores": lambda prepared: [prepared["scores"]]},
    "stack_snapshots": {"start": _one(0), "end": _one(-1)},
    "token_loss_pca": {"losses_1L": _over_training(0), "losses_2L": _over_training(1)},
    "viz.attention_heads": {"tokens": lambda prepared: prepared["tokens"][:, :24]},
    "viz.coloured_tokens": {"attribution": lambda prepared: torch.rand(2, 512)},
    "viz.plot_condition_losses": {"losses": _frame(condition=["free"] * 2, seed=[0] * 2, step=[0, 9], loss=[2.0, 1.0])},
    "viz.plot_dissociation": {
        "times": _frame(condition=["match"] * 2, varied=["labels"] * 2, number=[5, 10], seed=[0] * 2, step=[90.0, 99.0])
    },
    "viz.plot_heads_by_depth": {"scores": _scores_over_training},
    "viz.plot_heads_by_type": {
        "drops": lambda prepared: _scores_over_training(prepared)["copying"],
        "scores": _last_scores,
    },
    "viz.plot_learning_times": {
        "runs": lambda prepared: SimpleNamespace(learning_times=lambda threshold: _LEARNED(prepared))
    },
    "viz.plot_in_context_learning": {"losses": _twice},
    "viz.plot_loss_divergence": {"losses_1L": _over_training(0), "losses_2L": _over_training(1)},
    "viz.plot_loss_token_derivative": SLOPES,
    "viz.plot_losses_across_context": {"final": lambda prepared: {"2L": prepared["losses"]}},
    "viz.plot_losses_by_condition": {
        **FEW,
        "conditions": lambda prepared: ih.race_conditions(["L1H0", "L1H1"], "only"),
    },
    "viz.plot_toy_model": {"losses": _frame(condition=["free"] * 2, step=[0, 1], loss=[1.0, 0.5])},
    "viz.save_figure": {"figure": lambda prepared: go.Figure()},
    "curiosities": {
        "scores": _last_scores,
        "losses": _over_training(1),
        "ablated": _after_ablations,
        "change": lambda prepared: ih.phase_change([0, 1], [0.0, 0.0]),
    },
    "loop_effects": {"found": _loops},
    "viz.plot_loss_split": {**LOSSES, "change": lambda prepared: SimpleNamespace(start=0, end=1000)},
    **dict.fromkeys(("in_context_learning_split", "loss_spikes", "running_median", "viz.plot_loss_spikes"), LOSSES),
    **dict.fromkeys(("loss_curve", "loss_derivative", "loss_token_derivative", "non_convex_spans"), LOSSES),
    **dict.fromkeys(("chosen_token_losses", "token_loss_differences"), LOSSES),
    **dict.fromkeys(
        (
            "viz.plot_loss",
            "viz.plot_loss_derivative",
            "viz.plot_loss_by_context_index",
            "viz.plot_chosen_token_losses",
            "viz.coloured_loss_differences",
        ),
        LOSSES,
    ),
    **dict.fromkeys(("viz.plot_token_loss_pca", "viz.plot_token_loss_pca_together"), PAIR),
    **dict.fromkeys(
        ("exemplar_learning_times", "exemplar_metrics", "exemplar_subcircuits", "induction_strength"), EXEMPLARS
    ),
    **dict.fromkeys(("clamp", "wiring", "strength_conditions", "idealised_patterns", "losses_under"), FEW),
    **dict.fromkeys(("freezing_conditions", "subcircuits", "train_conditions"), CYCLE),
    **dict.fromkeys(("viz.plot_head_mosaic", "viz.plot_score_by_depth"), OTHERS),
    **dict.fromkeys(("HeadsOnText.pattern", "HeadsOnText.attribution", "HeadsOnText.save"), VIEW),
    **dict.fromkeys(("InductionView.to_html", "InductionView.save", "viz.induction_view"), VIEW),
}
"""Per example, by the name of what it documents: {name: what makes it}."""

FILES_OF: dict[str, tuple[str, ...]] = {
    "ModelAnalysisTable": ("runs/1L", "runs/2L"),
    "ModelAnalysisTable.from_runs": ("runs/1L-smeared",),
    "Snapshot": ("runs/2L",),
    "TokenCorpus": ("tokens/python",),
    "load_model": ("models/my-llama",),
    "open_run": ("runs/2L",),
}
"""Of `FILES`, what lies in the folder of an example."""

SHORTER: dict[str, dict[str, str]] = {
    "generation_loops": {"n_new=50": "n_new=4"},
    "loss_spikes": {"loss_spikes(losses)": "loss_spikes(losses, width=2)"},
    "viz.plot_loops": {"n_new=50": "n_new=4"},
    "viz.plot_loss_spikes": {"loss_spikes(losses)": "loss_spikes(losses, width=2)"},
    "ModelAnalysisTable.from_runs": {", workers=4": ""},
    "Snapshot": {"step_00000050": "step_00000020"},
    "exemplar_learning_times": {"seeds=(0, 1, 2), workers=2": "n_labels=(5,), n_classes=(20,), d_model=16, n_heads=4"},
    "load_model": {', device="cuda"': ""},
    "published_run": {'revisions="log"': "revisions=[0, 512]", "n_examples=100": "n_examples=2, n_pos=32"},
    "subcircuits": {"seeds=(0, 1, 2)": "seeds=(0,)"},
    "tokenize_text": {"vocab_size=1024": "vocab_size=1024, sample_characters=400_000, max_tokens=20_000"},
    "train": {"n_steps=1000": "n_steps=4", "d_model=64": "d_model=16"},
    "train_conditions": {"seeds=(0, 1, 2), workers=2": "seeds=(0,)"},
    "train_series": {"n_steps=1000, batch_size=32": "n_steps=2, batch_size=2", ", workers=2": ""},
}
"""What makes an example take seconds, or fit the small models here."""

NUMBERS_OPEN = {
    "context_free_attention",
    "loop_effects",
    "loss_split",
    "token_classes",
    "Capabilities.to_dict",
    "Estimate",
    "HeadScores.p_value",
    "HeadScores.stderr",
    "HeadsOnText.pattern",
    "ModelAnalysisTable",
    "Snapshot.load",
    "ablation_effects",
    "effective_weights",
    "exemplar_metrics",
    "head_wiring",
    "in_context_learning_difference",
    "in_context_learning_score",
    "in_context_learning_sensitivity",
    "key_composition",
    "loss_by_context_index",
    "matched_ablations",
    "memory_recall",
    "opaque_heads",
    "phase_change",
    "pointer_arithmetic",
    "restart_cycle_references",
    "score_agreement",
    "score_by_depth",
    "token_loss_differences",
    "token_losses",
    "viz.attention_heads",
}
"""Examples whose numbers are those of a real model: only what stands around the numbers is compared."""

RESULT_OPEN = {
    "explain_head",
    "head_types",
    "loss_derivative_order",
    "loss_spikes",
    "non_convex_spans",
    "match_shares",
    "match_terms",
    "open_run",
    "path_effects",
    "significant_heads",
    "strongest_compositions",
    "token_texts",
}
"""Examples whose whole result is that of a real model: it is not compared."""

# %% title [markdown]
# # Knock out heads: what is lost without them
#
# ![Change of the loss by ablating more and more induction heads](images/knock_out_heads.png)
#
# What you will see:
#
# - every head of a small model taken out by itself, in several ways that say different things: everything after it
#   computed anew or attention patterns kept, nothing or an average or another example's output in its place;
# - single heads that seem to matter little, and the same heads together, without which in-context learning is gone;
# - at which places of the context the loss rises, what each head is worth for in-context learning, and what it had to
#   do with the phase change;
# - a head's attention replaced by an exact rule, to see how much of it the rule explains.
#
# Needs this package and Jupyter, no network. The model is trained here, in 15 seconds; all
# outputs below come from it. `IH_LENS_DEMO_STEPS` trains it shorter or longer.

# %% train
import os

import pandas as pd
import plotly.express as px

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style

STEPS = int(os.environ.get("IH_LENS_DEMO_STEPS", "600"))
LOOK = {"template": style.TEMPLATE, "margin": {"l": 80, "r": 20, "t": 60, "b": 60}}
task = ih.RestartCycle(n_symbols=20)
cfg = ih.attention_only(2, d_model=64, n_heads=4, d_vocab=task.d_vocab, n_ctx=task.n_pos, initializer_range=0.02)
config = ih.TrainConfig(
    n_steps=STEPS,
    batch_size=32,
    lr=3e-3,
    snapshots=ih.every(15),
    warmup_steps=50,
    after_warmup="linear",
    weight_decay=0.01,
    betas=(0.9, 0.99),
    precision="float32",
)
run = ih.train(cfg, task, config, out="runs/knock_out_heads")
model = run.snapshots[-1].load()
print(f"two layers of {cfg.n_heads} heads, trained here for {STEPS} steps on RestartCycle")

# %% heads-text [markdown]
# ## Its heads

# %% heads
scores = ih.score_heads(model, seed=0)
types = ih.head_types(scores)
kinds = {str(ih.HeadIndex(*place)): kind for place, kind in types.to_series().items()}
induction = [str(head) for head, _ in scores.top("prefix_matching", 8) if kinds[str(head)] == "induction"]
print("induction heads, the highest score first:", " ".join(induction))
scores.to_dataframe()[["prefix_matching", "copying", "previous_token"]].assign(type=types.to_numpy().ravel()).round(2)

# %% kinds-text [markdown]
# ## Several ways to take a head out
#
# *Pattern-preserving* ablation keeps every attention pattern as it was, so that it shows what a head gives through
# values alone; *full* ablation lets later heads look elsewhere. *Zero* leaves nothing in a head's place, *mean* its
# average output, *resample* its output at the same place of another example. Numbers are changes of the mean loss in
# nats.

# %% kinds
evals = ih.EvalSet.from_tokens(task.held_out(256), seed=0)
plain = ih.token_losses(model, evals)
WAYS = [
    ("full", "zero"),
    ("full", "mean"),
    ("pattern_preserving", "zero"),
    ("pattern_preserving", "mean"),
    ("pattern_preserving", "resample"),
]
ablated = {(kind, what): ih.ablate_heads(model, evals, kind=kind, replace=what, seed=0) for kind, what in WAYS}
change = {
    f"{kind.replace('_', '-')}, {what}": (losses.by_context_index - plain.by_context_index).mean("context_index")
    for (kind, what), losses in ablated.items()
}
rows = pd.DataFrame({name: values.to_series() for name, values in change.items()})
rows.insert(0, "type", [kinds[str(ih.HeadIndex(*place))] for place in rows.index])
rows.round(2)

# %% kinds-figure
long = rows.assign(head=[f"{ih.HeadIndex(*place)}" for place in rows.index]).melt(["head", "type"])
figure = px.bar(
    long,
    x="head",
    y="value",
    color="variable",
    pattern_shape="variable",
    barmode="group",
    color_discrete_sequence=["#1F3B63", "#56B4E9", "#E69F00", "#F0C75E", "#9A9A9A"],
    labels={"value": "change of the mean loss (nats)", "variable": ""},
    title="Each head taken out by itself",
)
figure.update_layout(**LOOK, width=960, height=320)

# %% kinds-read [markdown]
# Look at the first layer: what these heads cost is more when later patterns may change than when they are kept, because
# they tell the second layer *where* to look. For the heads of the second layer both ways agree: no pattern comes after
# them. Another example's output costs most, where it says something wrong instead of nothing.

# %% groups-text [markdown]
# ## One, two, all of them
#
# Taken out one after the other, the highest score first, and each by itself for comparison. Where several heads do the
# same, each alone can be spared; that says nothing about what they do together.

# %% groups
groups = [induction[: n + 1] for n in range(len(induction))]
together = ih.ablate_heads(model, evals, heads=groups, kind="pattern_preserving")
rest = [f"L1H{head}" for head in range(cfg.n_heads) if f"L1H{head}" not in induction]
single = change["pattern-preserving, zero"]
alone = [float(single.sel(layer=int(name[1]), head=int(name[3]))) for name in induction]
joint = (together.by_context_index - plain.by_context_index).mean("context_index").to_numpy()
course = pd.DataFrame(
    {
        "heads taken out": range(1, len(induction) + 1),
        "together": joint,
        "sum of each alone": pd.Series(alone).cumsum(),
    }
)
course.assign(which=[" ".join(group) for group in groups]).round(2)

# %% groups-figure
figure = px.line(
    course.melt("heads taken out"),
    x="heads taken out",
    y="value",
    color="variable",
    line_dash="variable",
    markers=True,
    color_discrete_sequence=["#0072B2", "#9A9A9A"],
    labels={"value": "change of the mean loss (nats)", "variable": ""},
    title="Induction heads taken out together, and the sum of what each costs alone",
)
figure.update_xaxes(dtick=1)
figure.update_layout(**LOOK, width=820, height=320)

# %% context-text [markdown]
# ## Where in the context
#
# Early in a sequence there is nothing to copy. Without the induction heads that is how it stays.

# %% context
curves = {
    "as it is": plain.by_context_index,
    f"without {induction[0]}": together.by_context_index.isel(group=0),
    "without all induction heads": together.by_context_index.isel(group=-1),
}
curve = pd.concat(
    [
        values.reset_coords(drop=True).to_dataframe(name="loss").reset_index().assign(model=name)
        for name, values in curves.items()
    ]
)
figure = px.line(
    curve,
    x="context_index",
    y="loss",
    color="model",
    line_dash="model",
    color_discrete_sequence=["#1F3B63", "#56B4E9", "#E69F00"],
    labels={"context_index": "context index (tokens)", "loss": "loss (nats)", "model": ""},
    title="Loss by context index",
)
figure.update_layout(**LOOK, width=860, height=320)

# %% score-text [markdown]
# ## What each is worth for in-context learning
#
# The in-context learning score is the loss late in the context minus the loss early in it. Its change by an ablation is
# positive where a head was needed for in-context learning.

# %% score
EARLY, LATE = 5, task.n_pos - 1
before = ih.in_context_learning_score(plain, early=EARLY, late=LATE)
without = ih.in_context_learning_score(together, early=EARLY, late=LATE).to_numpy()
print(f"as it is: {float(before):.2f} nats, standard error {float(before.stderr):.2f}")
for group, value in zip(groups, without, strict=True):
    print(f"without {' '.join(group)}: {value:.2f} nats, {100 * value / float(before):.0f} % of it left")

# %% score-map
worth = ih.attribution_to_in_context_learning(ablated["full", "zero"], plain, early=EARLY, late=LATE)
viz.plot_head_map(worth, title="Change of the in-context learning score, full ablation", unit="nats", signed=True)

# %% before-text [markdown]
# ## What they had to do with the phase change
#
# The *before-and-after vector* is the direction in which the losses of single tokens moved during the phase change. A
# head whose ablation moves them the other way undoes what was learned then: its value is negative.

# %% before
table = ih.ModelAnalysisTable.from_runs([run], evals=evals, settings=ih.TableSettings(ablate=False))
(phase,) = table.phase_changes.values()
ends = {shot.tokens_elapsed: shot for shot in run.snapshots}
start, end = (ih.token_losses(ends[int(tokens)].load(), evals) for tokens in (phase.start, phase.end))
vector = ih.before_and_after_vector(start, end)
print(
    f"the phase change: {int(phase.start):,} to {int(phase.end):,} tokens; the losses moved by {vector.length:.0f} nats"
)
undone = ih.attribution_to_before_and_after(ablated["full", "zero"], plain, vector)
viz.plot_head_map(undone, title="Change along the before-and-after vector, full ablation", unit="nats", signed=True)

# %% ideal-text [markdown]
# ## An exact rule in its place
#
# How much of an induction head is "attend to what followed the same token before, else to the first token"? Its pattern
# is replaced by this rule, or by others: `recovered` is 1 if nothing is lost by that, 0 if it is as bad as no head. All
# induction heads get the rule together.

# %% ideal
ih.idealised_patterns(model, evals, induction).round(2)

# %% more [markdown]
# ## More
#
# On a model from the hub the same calls work: `ih.ablate_heads(ih.load_model("gpt2"), evals, heads=["L5H5", "L6H9"])`;
# see [gpt2_heads.ipynb](gpt2_heads.ipynb). Ablating every head of every snapshot of a training:
# `ih.ModelAnalysisTable.from_runs([run])`, or `make demo`. Heads switched off *while* a model learns:
# [clamping.ipynb](clamping.ipynb).

# %% title [markdown]
# # Train your own: watch induction heads form, in a minute
#
# ![Prefix matching of every head of three small models over their training](images/train_your_own.png)
#
# What you will see:
#
# - a task that only looking back can solve, and three models of 64 numbers per token that learn it: one layer, two
#   layers, and one layer with *smeared keys* (each key is mixed with the one before, so that a single layer can do
#   induction);
# - the loss of the second and the third falling off a cliff, the *phase change*, and the one-layer model never getting
#   there;
# - heads that begin to attend to what they should copy, just then, and one head's attention before, during and after;
# - what is learned at which place of the context, and sentences that say it with numbers.
#
# Needs this package and Jupyter, no network. The trainings take about 30 seconds on two
# CPU cores, measuring them 20; all outputs below come from this notebook's own training, with 600 steps.
#
# `IH_LENS_DEMO_STEPS` trains shorter or longer. What was trained stays in `runs/train_your_own`; interrupted, it goes
# on where it was.

# %% setup
import os

import pandas as pd
import plotly.express as px
import torch

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style

STEPS = int(os.environ.get("IH_LENS_DEMO_STEPS", "600"))
LOOK = {"template": style.TEMPLATE, "margin": {"l": 80, "r": 20, "t": 60, "b": 60}}
task = ih.RestartCycle(n_symbols=20)
print(f"RestartCycle of {task.n_symbols} symbols, {task.length} tokens per example; {STEPS} steps of training")

# %% task-text [markdown]
# ## The task
#
# Every sequence goes round a random cycle of 12 symbols, its own, and now and then jumps to another place of it. No
# symbol says by itself what comes next: one has to find where it stood before, and what followed it there. That is
# induction. Tokens in capitals below can be found in this way.

# %% task
examples = task.examples(0, 3, data_seed=0)
letters = [chr(ord("a") + symbol) for symbol in range(task.n_symbols)]
for example, found in zip(examples.tolist(), task.predictable(examples).tolist(), strict=True):
    print(" ".join(letters[s].upper() if known else letters[s] for s, known in zip(example, found, strict=True)))

# %% train-text [markdown]
# ## Three trainings
#
# The same examples in the same order for all three; they differ in the model alone.

# %% train
sizes = {
    "d_model": 64,
    "n_heads": 4,
    "d_vocab": task.d_vocab,
    "n_ctx": task.n_pos,
    "initializer_range": 0.02,
}
models = [
    ih.ModelSpec("one layer", ih.attention_only(1, **sizes)),
    ih.ModelSpec("two layers", ih.attention_only(2, **sizes)),
    ih.ModelSpec("one layer, smeared keys", ih.attention_only(1, **sizes), smeared_keys=True),
]
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
    n_held_out=256,
)
runs = ih.train_series(models, task, config, out="runs/train_your_own", workers=2)
pd.DataFrame(
    [(run.name, len(run.snapshots), round(float(run.losses["loss"].tail(20).mean()), 2)) for run in runs],
    columns=["model", "snapshots", "loss at the end (nats)"],
)

# %% floor
print(f"No model can stay below {task.theoretical_floor:.2f} nats on the average: jumps cannot be foreseen.")

# %% table-text [markdown]
# ## What they learned, and when
#
# The Model Analysis Table measures every snapshot on sequences that no model has seen. Ablations, its costly part, are
# left out here; [knock_out_heads.ipynb](knock_out_heads.ipynb) is about them.

# %% table
table = ih.ModelAnalysisTable.from_runs(runs, settings=ih.TableSettings(ablate=False), workers=2)
for sentence in ih.findings(table):
    print(sentence)

# %% loss-text [markdown]
# The orange band is the phase change: where the in-context learning score falls fastest.

# %% loss
bands = {
    name: (change.start, change.end) if change.start is not None and change.end is not None else None
    for name, change in table.phase_changes.items()
}
viz.plot_loss(table["loss"], phase_changes=bands)

# %% in-context
viz.plot_in_context_learning(table["in_context_learning_score"], phase_changes=bands)

# %% in-context-text [markdown]
# The score is the loss late in the context minus the loss early in it: the lower, the more the model makes of what it
# has read. The one-layer model gains a little in its own, early way: it learns which symbols the sequence is made of.

# %% prefix-text [markdown]
# ## The heads
#
# Prefix matching is measured on random tokens that repeat: how much a head attends to the token that followed the same
# token before. One line per head; light heads are in the first layer, dark ones in the last.

# %% prefix
viz.plot_prefix_matching(table["prefix_matching"], phase_changes=bands)

# %% types
pd.DataFrame({name: types.to_series().value_counts() for name, types in table.head_types.items()}).fillna(0).astype(int)

# %% forming-text [markdown]
# ## One head, before and after
#
# The induction head of the two-layer model with the highest score, over three snapshots, on random symbols that repeat
# after 12. Afterwards there is a stripe: each symbol looks at what stood behind it in the round before.

# %% forming
two_layers = next(run for run in runs if run.name == "two layers")
last = two_layers.snapshots[-1].load()
((head, score),) = ih.score_heads(last, seed=0).top("prefix_matching", 1)
tokens = ih.repeated_random_tokens(last, length=12, repeats=3, n_examples=1, seed=1)
middle = table.phase_changes["two layers"]
steps = [0, *(shot.step for shot in two_layers.snapshots if middle.start and shot.tokens_elapsed == middle.end), STEPS]
patterns = []
for shot in (shot for shot in two_layers.snapshots if shot.step in steps):
    model = shot.load()
    _, cache = model.run_with_cache(tokens, return_type=None)
    patterns.append(cache["pattern", head.layer][0, head.head])
figure = px.imshow(
    torch.stack(patterns).round(decimals=3),
    facet_col=0,
    color_continuous_scale=style.LOSS_SCALE,
    zmin=0,
    zmax=1,
    labels={"x": "source (position)", "y": "destination (position)", "color": "attention (0 to 1)"},
    title=f"{head}, prefix matching {score:.2f} at the end",
)
for note, step in zip(figure.layout.annotations, sorted(set(steps)), strict=True):
    note.text = f"step {step}"
figure.update_layout(**LOOK, width=860, height=330)

# %% context-text [markdown]
# ## Where in the context
#
# Rows are places in the context, columns the training. Before the change the loss is about the same everywhere; after
# it, it falls with every symbol that was read.

# %% context
viz.plot_loss_by_context_index(table["loss_by_context_index"], phase_changes=bands)

# %% context-curve
columns = []
for name, losses in table["loss_by_context_index"].items():
    columns.append(losses.isel(snapshot=-1).to_dataframe(name="loss").reset_index().assign(model=name))
figure = px.line(
    pd.concat(columns),
    x="context_index",
    y="loss",
    color="model",
    line_dash="model",
    color_discrete_sequence=["#9A9A9A", "#0072B2", "#E69F00"],
    labels={"context_index": "context index (tokens)", "loss": "loss (nats)", "model": ""},
    title="Loss by context index at the end of training",
)
figure.add_hline(task.theoretical_floor, line_dash="dot", annotation_text="floor")
figure.update_layout(**LOOK, width=860, height=320)

# %% more [markdown]
# ## More
#
# The whole page with every row: `table.to_html("table.html")`. More models, two seeds, and every head ablated: `make
# demo`. On text instead, from the command line (the sources of Python's standard library, which every machine has):
#
# ```bash
# ih-lens tokens python-stdlib --out tokens/python --vocab-size 1024
# ih-lens train tokens/python --out runs --series smeared_keys --models control_1L,smeared_keys_1L \
#     --train-tokens 4000000
# ```
#
# Next: [knock_out_heads.ipynb](knock_out_heads.ipynb), what is lost without these heads;
# [clamping.ipynb](clamping.ipynb), parts of them given to a model while it learns.

# %% title [markdown]
# # Switching parts of an induction circuit on and off while it is learned
#
# ![Training loss under five conditions](images/clamping.png)
#
# What you will see:
#
# - a model that learns a task first slowly, on a plateau, then all at once, when induction forms;
# - the same training with parts of the circuit *clamped*, given or forbidden from the beginning (Singh et al. 2024),
#   and which part the plateau waits for;
# - how far each part has come at any time, by making the others perfect at test time;
# - heads that race for the same job, and how the first layer's act on the second's.
#
# Needs this package and Jupyter, no network. Five trainings of about 20 seconds each on
# two CPU cores; all outputs below come from them. `IH_LENS_DEMO_STEPS` and `IH_LENS_DEMO_SEEDS` (such as `0,1,2`)
# change how long and how often is trained. Interrupted, it goes on where it was.

# %% setup
import os

import pandas as pd

import ih_lens as ih
from ih_lens.viz.clamping import plot_condition_losses, plot_learning_times, plot_losses_by_condition

STEPS = int(os.environ.get("IH_LENS_DEMO_STEPS", "700"))
SEEDS = [int(seed) for seed in os.environ.get("IH_LENS_DEMO_SEEDS", "0").split(",")]
task = ih.RestartCycle()
cfg = ih.attention_only(
    2, d_model=64, n_heads=4, d_vocab=task.d_vocab, n_ctx=task.n_pos, positions="standard", initializer_range=0.02
)
config = ih.TrainConfig(
    n_steps=STEPS,
    batch_size=32,
    lr=1e-3,
    betas=(0.9, 0.99),
    warmup_steps=min(50, STEPS // 4),
    snapshots=ih.every(max(1, STEPS // 14)),
)
evals = ih.EvalSet.from_tokens(task.held_out(256))
task.examples(0, 1, data_seed=0)

# %% conditions-text [markdown]
# ## What is clamped
#
# The circuit has three parts: a head that attends to the previous token (A), a head of the next layer that finds the
# same token earlier and attends to what followed it (B, the match), and what this head copies (C). A clamp is data, and
# a plan of them prints itself.

# %% conditions
every_one = ih.subcircuits(cfg, head="L1H0", previous="L0H0")
conditions = {name: every_one[name] for name in ("free", "A: previous token", "B: match", "A forbidden")}
conditions["A, then released"] = [ih.PreviousToken("L0H0", during=ih.During(0, STEPS // 2))]
for name, clamps in conditions.items():
    print(f"{name:20} {ih.Plan(clamps)}")

# %% train-text [markdown]
# ## The trainings
#
# All of a seed begin with the same weights and see the same examples in the same order: they differ in the clamps
# alone.

# %% train
runs = ih.train_conditions(cfg, task, config, conditions, out="runs/clamping", seeds=SEEDS, workers=2)
THRESHOLD = 2.4  # nats; halfway between a reader who knows the symbols of a sequence and one who uses induction
plot_condition_losses(runs.loss_table(window=10), levels={"learned": THRESHOLD})

# %% times
times = runs.learning_times(THRESHOLD)
plot_learning_times(times.assign(n_steps=STEPS))

# %% times-text [markdown]
# Attention to the previous token given from the beginning shortens the plateau, a perfect match removes it, and without
# attention to the previous token in the first layer nothing is learned for a long time. When A is let go in the middle,
# the loss jumps back, and A is learned again sooner than from the beginning: B and C are there already. More seeds and
# the other task: `ih-lens clamp-demo`.

# %% released-text [markdown]
# ## With the clamp, and without
#
# Snapshots are plain weights. A model leans on what it was given and is lost without it, so both losses are worth
# reporting.

# %% released
rows = []
for name, clamps in conditions.items():
    clamps = [] if name == "A, then released" else clamps
    model = runs.runs[name][SEEDS[0]].snapshots[-1].load()
    found = ih.losses_under(model, evals, {"clamped": clamps, "released": []})
    rows.append({"training": name, **dict(zip(found["condition"], found["loss"].round(3), strict=True))})
pd.DataFrame(rows)

# %% perfected-text [markdown]
# ## Perfect at test time
#
# The same clamps on every snapshot of the free training ask something else: not how the rest would learn if a part were
# given, but how far the rest has come when the part is made perfect.

# %% perfected
free = runs.runs["free"][SEEDS[0]]
parts = {name: clamps for name, clamps in conditions.items() if name in ("free", "A: previous token", "B: match")}
perfected = ih.perfected_losses(free, evals, parts).assign(seed=SEEDS[0])
plot_condition_losses(perfected)

# %% race-text [markdown]
# ## The race of heads
#
# Several heads of the second layer learn the same, each alone would be slower, and in the end most can be spared.

# %% race
model = free.snapshots[-1].load()
heads = [f"L1H{head}" for head in range(cfg.n_heads)]
raced = [
    ih.losses_under(model, evals, ih.race_conditions(heads, mode)).assign(group=name, seed=SEEDS[0])
    for mode, name in (("only", "one left"), ("leave_one_out", "one taken out"))
]
plot_losses_by_condition(pd.concat(raced, ignore_index=True))

# %% wiring-text [markdown]
# How do the heads of the first layer act on the second? With the patterns of the second kept as they were, what is left
# acts through values; with its values kept, through patterns. The cost of a head that the match reads is gone when keys
# are kept.

# %% wiring
costs = ih.wiring(model, evals, [[f"L0H{head}"] for head in range(cfg.n_heads)])
costs.pivot(index="heads", columns="ablated", values="cost").round(3)

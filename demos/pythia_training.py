# %% title [markdown]
# # When induction heads form: Pythia over its training
#
# ![Prefix matching of every head over training, with the phase change](images/pythia_training.png)
#
# What you will see:
#
# - a published model at many steps of its training: fetched, measured, dropped from the cache again;
# - its phase change, if there is one: where the in-context learning score falls fastest;
# - the loss at each place of the context, over training;
# - for every induction head of the last checkpoint, when it formed.
#
# EleutherAI published Pythia's weights at 154 steps. With `pythia-70m` and "log" about 20 checkpoints of 0.2 GB are
# fetched, some minutes on a CPU. Needs this package and Jupyter. Interrupted, it goes on
# where it was.
#
# `IH_LENS_DEMO_MODEL` names another model with published checkpoints, `IH_LENS_DEMO_REVISIONS` chooses others: all,
# log, or labels such as `step0,step512,step143000`, and `IH_LENS_DEMO_FOLDER` says where the measurements are kept.
# Without a network, `python stand_ins.py pythia FOLDER` makes a stand-in and prints these settings for it. The
# next cell says what its outputs, and all below, come from.

# %% load
import os

import pandas as pd

import ih_lens as ih
from ih_lens import viz

MODEL = os.environ.get("IH_LENS_DEMO_MODEL", "pythia-70m")
REVISIONS = os.environ.get("IH_LENS_DEMO_REVISIONS", "log")
run = ih.published_run(
    MODEL,
    revisions=REVISIONS if REVISIONS in ("all", "log") else REVISIONS.split(","),
    folder=os.environ.get("IH_LENS_DEMO_FOLDER"),
)
about = run.path / "STAND_IN.txt"
print(
    f"{run.repository}: {len(run.snapshots)} snapshots, the last at step {run.snapshots[-1].step:,} of {run.n_steps:,}"
)
print(about.read_text(encoding="utf8") if about.exists() else "weights as published")
pd.DataFrame(
    [(shot.checkpoint.revision, shot.step, shot.tokens_elapsed) for shot in run.snapshots],
    columns=["revision", "step", "tokens elapsed"],
)

# %% text-text [markdown]
# ## The examples
#
# All checkpoints are measured on the same text: the sources of Python's standard library, cut by the model's own
# tokenizer, 512 tokens each where the context allows it.

# %% text
evals = ih.text_examples(run, "python-stdlib", n_examples=32, seed=0)
evals.tokens.shape

# %% table-text [markdown]
# ## The Model Analysis Table
#
# One column for this model. Ablating every head at every checkpoint is the costly part and left out here; `ablate=True`
# adds it. What was measured before is only drawn.

# %% table
table = ih.ModelAnalysisTable.from_runs([run], evals=evals, settings=ih.TableSettings(ablate=False))
(name,) = table.models
for sentence in ih.findings(table):
    print(sentence)

# %% phase-text [markdown]
# ## The phase change
#
# Where the in-context learning score falls fastest, in tokens. "Not found" is an answer: it takes checkpoints that lie
# close enough.

# %% phase
change = table.phase_changes[name]
change

# %% score-figure
bands = {name: (change.start, change.end) if change.found else None}
viz.plot_in_context_learning(table["in_context_learning_score"], phase_changes=bands, log_tokens=True)

# %% prefix-figure
viz.plot_prefix_matching(table["prefix_matching"], phase_changes=bands, log_tokens=True)

# %% loss-figure
viz.plot_loss_by_context_index(table["loss_by_context_index"], phase_changes=bands, log_tokens=True)

# %% when-text [markdown]
# ## When heads form
#
# For every head that is an induction head in the end: the first checkpoint at which its prefix matching reaches 0.3,
# and from which it stays there.

# %% when
prefix = table["prefix_matching"][name]
rows = []
for head in table.induction_heads[name]:
    course = prefix.sel(layer=head.layer, head=head.head).to_series().to_numpy()
    below = (course < 0.3).nonzero()[0]
    formed = 0 if len(below) == 0 else int(below[-1]) + 1
    rows.append((str(head), int(prefix["step"][formed]), int(prefix["tokens_elapsed"][formed]), course[-1]))
pd.DataFrame(rows, columns=["head", "step", "tokens elapsed", "prefix matching at last"])

# %% types
table.head_types[name].to_series().value_counts()

# %% page-text [markdown]
# ## The whole table as a page
#
# One file without any dependence on the network; `table.save("pythia.zarr")` keeps the numbers.

# %% page
table.to_html("pythia_training.html", title=f"{MODEL} over its training").name

# %% end [markdown]
# ## More
#
# The same on models that you train yourself, in a minute: [train_your_own.ipynb](train_your_own.ipynb). From the
# command line: `ih-lens table pythia-70m --revisions log --out pythia.html`. What the heads of one model do:
# [gpt2_heads.ipynb](gpt2_heads.ipynb).

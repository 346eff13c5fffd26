# %% title [markdown]
# # The heads of GPT-2
#
# ![Prefix matching score of each head, layer by head](images/gpt2_heads.png)
#
# What you will see:
#
# - random tokens that repeat, and the loss that falls from the second copy on;
# - every head's scores as maps, the heads by type, and how that agrees with what others published;
# - attention patterns of the best heads, to hover over;
# - what is lost without them, on random tokens and on text, against random heads;
# - which tokens they copy from, as logits.
#
# Needs this package and Jupyter; a few minutes on a CPU. GPT-2 (0.5 GB) is downloaded
# once. `IH_LENS_DEMO_MODEL` names another model: a name on the Hugging Face hub, or a folder in its format, such as the
# stand-in that `python stand_ins.py gpt2 FOLDER` makes without any network. Everything follows the model's size;
# only the comparison with published heads is GPT-2 small's own. The next cell says what its outputs, and all below,
# come from.

# %% load
import os
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.io as pio
import torch

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style

pio.templates.default = style.TEMPLATE
MODEL = os.environ.get("IH_LENS_DEMO_MODEL", "gpt2")
model = ih.load_model(MODEL)
print(f"{MODEL}: {model.cfg.n_layers} layers of {model.cfg.n_heads} heads, a context of {model.cfg.n_ctx} tokens")
about = Path(MODEL, "STAND_IN.txt")
print(about.read_text(encoding="utf8") if about.exists() else "weights as published")

# %% capabilities-text [markdown]
# ## What can be measured on it
#
# Some models hide or discard attention patterns, some see only a window. What they do not allow is refused with the
# reason, never measured silently on something else.

# %% capabilities
ih.capabilities(model)

# %% tokens-text [markdown]
# ## Random tokens, repeated
#
# The paper scores heads on 25 random tokens, repeated four times after a start token: nothing helps to predict the
# first copy, and only looking back helps with the others. Special, unreachable, most and least common tokens are left
# out.

# %% tokens
LENGTH = min(25, (model.cfg.n_ctx - 1) // 4)
tokens = ih.repeated_random_tokens(model, length=LENGTH, repeats=4, n_examples=10, seed=0)
print(tokens.shape)
model.tokenizer.decode(tokens[0, : LENGTH + 4])

# %% losses-text [markdown]
# The loss falls at the second copy, if the model copies what came before. Context index i is the i-th token that the
# model sees, counted from 0, and its loss is that of predicting it.

# %% losses
repeated = ih.EvalSet.from_tokens(tokens)
losses = ih.token_losses(model, repeated)
curve = losses.by_context_index.to_dataframe(name="loss").reset_index()
names = {"context_index": "context index (tokens)", "loss": "loss (nats)"}
px.line(curve, x="context_index", y="loss", labels=names, title="Loss on repeated random tokens", width=800, height=320)

# %% scores-text [markdown]
# ## Every head's scores
#
# Prefix matching (0 to 1): attention to the token that induction would copy. Copying (-1 to 1): whether the head then
# raises that token's logit. The page docs/definitions.md of the repository says exactly what each number is.

# %% scores
scores = ih.score_heads(model, seed=0)
table = scores.to_dataframe().sort_values("prefix_matching", ascending=False)
table.head(12).round(3)

# %% map
viz.plot_head_map(scores["prefix_matching"], title="Prefix matching score of each head", unit="score (0 to 1)")

# %% copying-map
viz.plot_head_map(scores["copying"], title="Copying score of each head", unit="score (-1 to 1)", signed=True)

# %% types-text [markdown]
# ## Heads by type
#
# Thresholds on the scores: prefix matching of 0.3 with copying above 0 makes an induction head, with copying below 0 an
# anti-copying one; previous-token attention of 0.3 a previous-token head.

# %% types
types = ih.head_types(scores)
by_type = types.to_series().groupby(types.to_series())
pd.DataFrame(
    {"heads": by_type.size(), "which": by_type.apply(lambda of: " ".join(f"L{i}H{j}" for i, j in of.index[:12]))}
)

# %% atlas-text [markdown]
# ## What others found
#
# The atlas holds published heads of exact models, with their sources. Sources use other methods (path patching, other
# scores), so a disagreement is no error of either side. For another model give its name, or `None` for the model's own.

# %% atlas
atlas = ih.compare_to_atlas(scores, "gpt2")
print(atlas)
columns = ["head", "published", "found", "agrees", "prefix_matching", "copying", "previous_token", "source"]
atlas.to_dataframe().dropna(subset="agrees")[columns].round(2)

# %% patterns-text [markdown]
# ## Attention patterns
#
# The heads with the highest prefix matching, on the first example: a stripe that lies one copy, less one token, back.
# Here stands a picture (GitHub shows no scripts); run the cell to hover over a head and see it large.

# %% patterns
best = [head for head, _ in scores.top("prefix_matching", 4)]
hooks = {f"blocks.{head.layer}.attn.hook_pattern" for head in best}
_, cache = model.run_with_cache(tokens[:1], names_filter=lambda name: name in hooks, return_type=None)
patterns = torch.stack([cache["pattern", head.layer][0, head.head] for head in best])
viz.attention_heads(patterns, ih.token_texts(model, tokens[0]), heads=best, scores=scores["prefix_matching"])

# %% text-text [markdown]
# ## In-context learning on text
#
# The in-context learning score is the loss late in the context minus the loss early in it: negative if the model makes
# use of what it read. Here on the sources of Python's standard library, which every machine has.

# %% text
text = ih.text_examples(model, "python-stdlib", n_examples=16, seed=0)
text_losses = ih.token_losses(model, text)
EARLY, LATE = (int(index) for index in text_losses.dataset["at_index"])
score = ih.in_context_learning_score(text_losses, early=EARLY, late=LATE)
print(f"loss at {LATE} minus loss at {EARLY}: {float(score):.2f} nats, standard error {float(score.stderr):.2f}")

# %% text-curve
curve = text_losses.by_context_index.to_dataframe(name="loss").reset_index()
px.line(curve, x="context_index", y="loss", log_x=True, labels=names, title="Loss on text", width=800, height=320)

# %% ablation-text [markdown]
# ## Without these heads
#
# Pattern-preserving ablation (the paper's) zeroes the heads' outputs and keeps every attention pattern as it was. As a
# control, as many random heads, five times.

# %% ablation
heads = [ih.HeadIndex(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
others = [head for head in heads if head not in best]
draw = np.random.default_rng(0)
controls = [[others[i] for i in draw.choice(len(others), len(best), replace=False)] for _ in range(5)]
ablated = {
    name: ih.ablate_heads(model, examples, heads=[best, *controls], kind="pattern_preserving")
    for name, examples in {"repeated random tokens": repeated, "text": text}.items()
}

# %% ablation-losses
plain = {"repeated random tokens": losses, "text": text_losses}
rows = []
for name, changed in ablated.items():
    difference = (changed.by_context_index - plain[name].by_context_index).mean("context_index")
    kinds = ["best induction heads", *["random heads"] * len(controls)]
    rows += [{"examples": name, "ablated": kind, "nats": float(d)} for kind, d in zip(kinds, difference, strict=True)]
figure = px.strip(
    pd.DataFrame(rows),
    x="nats",
    y="examples",
    color="ablated",
    labels={"nats": "change (nats)", "examples": "", "ablated": ""},
    title="Change of the mean loss by ablating four heads together",
    width=800,
    height=300,
)
figure.update_yaxes(automargin=True)

# %% ablation-score
change = ih.attribution_to_in_context_learning(ablated["text"], text_losses, early=EARLY, late=LATE)
change.to_dataframe(name="change of the in-context learning score (nats)").round(3)

# %% attribution-text [markdown]
# ## What they write
#
# Logit attribution splits the logit of each token that actually comes next into a sum over heads and source tokens. On
# repeated tokens the induction heads give most of it, and they take it from the token that they copy.

# %% attribution
terms = ih.logit_terms(model, tokens)
from_second_copy = terms.heads[..., LENGTH + 1 :].mean(dim=(0, 3))
viz.plot_head_map(
    ih.HeadScores.from_tensors({"logit": from_second_copy})["logit"],
    title="What each head adds to the next token's logit, from the second copy on",
    unit="logits",
    signed=True,
)

# %% attribution-sources
head = best[0]
by_source = ih.logit_attribution(model, tokens[:1], layers=[head.layer])[0, 0, head.head]
px.imshow(
    by_source,
    color_continuous_scale=style.DERIVATIVE_SCALE,
    color_continuous_midpoint=0,
    labels={"x": "source", "y": "destination", "color": "logits"},
    title=f"{head}: what it adds to the next token's logit, by source",
    width=620,
    height=560,
)

# %% end [markdown]
# ## More
#
# What such heads do on text, token by token: [attribution_and_viewer.ipynb](attribution_and_viewer.ipynb). `ih-lens
# score gpt2 --atlas auto --out gpt2_scores` prints and writes the scores without a notebook. When such heads form in
# training: [pythia_training.ipynb](pythia_training.ipynb).

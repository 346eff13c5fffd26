# %% title [markdown]
# # What induction heads do on text: literal copying, translation, pattern matching
#
# ![The viewer: where one token attends, in red, and what raised its logit, in blue](images/attribution_and_viewer.png)
#
# What you will see, on three short texts written for this:
#
# - a paragraph that repeats itself: heads that find the last time and copy how it went on;
# - the same story in English, French and German: heads that look at the English word while the French one is predicted;
# - lines that follow a rule, and heads that look at earlier lines *of the same kind*, which share no word with this
#   one;
# - for each text the paper's viewer: attention in red and logit attribution in blue, token by token, for any head.
#
# Needs this package and Jupyter; about two minutes on a CPU. GPT-2 (0.5 GB) is downloaded
# once. `IH_LENS_DEMO_MODEL` names another model: a name on the Hugging Face hub, or a folder in its format, such as the
# stand-in that `python stand_ins.py gpt2 FOLDER` makes without any network. The next cell says what its outputs,
# and all below, come from.

# %% load
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ih_lens as ih
from ih_lens import viz

MODEL = os.environ.get("IH_LENS_DEMO_MODEL", "gpt2")
model = ih.load_model(MODEL)
print(f"{MODEL}: {model.cfg.n_layers} layers of {model.cfg.n_heads} heads, a context of {model.cfg.n_ctx} tokens")
about = Path(MODEL, "STAND_IN.txt")
print(about.read_text(encoding="utf8") if about.exists() else "weights as published")

# %% scores
scores = ih.score_heads(model, seed=0)
print("prefix matching:", ", ".join(f"{head} {score:.2f}" for head, score in scores.top("prefix_matching", 6)))

# %% attribution-text [markdown]
# ## Two views of one head
#
# *Attention* says where a head looks. *Logit attribution* says what came of it: how much of the logit of the token that
# actually comes next a head moved there from each earlier token. It is a part of the whole logit: over all heads and
# sources, with embeddings, MLPs and biases, it sums to it (docs/definitions.md of the repository). The view shows both
# for one token: in red, where the head attends *from* it, to predict the next one; in blue, what raised *its own*
# logit, one place before.


# %% tools
def look(text):
    """What every head does on a text, its tokens, and each head's logit attribution [layer, head, dest, src]."""
    data = ih.induction_view(model, text).data
    return data, data.texts, ih.logit_attribution(model, torch.tensor([data.ids]))[0]


def view(text, heads, logits, title):
    """The viewer of a text, its heads sorted by what was found here."""
    return ih.induction_view(
        model, text, heads=heads, scores=ih.HeadScores.from_tensors({"logits": logits}), title=title
    )


def places(texts, word):
    """The tokens at which a word begins."""
    starts = np.cumsum([0, *map(len, texts)])
    found = re.finditer(rf"\b{re.escape(word)}\b", "".join(texts))
    return [int(np.searchsorted(starts, match.start(), side="right")) - 1 for match in found]


def head_map(values, title):
    return viz.plot_head_map(
        ih.HeadScores.from_tensors({"logits": values})["logits"], title=title, unit="logits", signed=True
    )


def ranked(values, n=6):
    order = values.flatten().argsort(descending=True)[:n].tolist()
    return [ih.HeadIndex(*divmod(place, model.cfg.n_heads)) for place in order]


def strongest(attribution, texts, head, dests, n=12):
    """For some destinations: the token that came, and where one head got most of what it gave it."""
    sources = attribution[head.layer, head.head, dests].argmax(dim=-1).tolist()
    given = attribution[head.layer, head.head, dests, sources].tolist()
    rows = [
        (texts[dest], texts[dest + 1], texts[source], source, gain)
        for dest, source, gain in zip(dests, sources, given, strict=True)
    ]
    columns = ["after", "comes", "copied from", "at", "logits"]
    table = pd.DataFrame(rows, columns=columns).sort_values("logits", ascending=False).head(n)
    return table.assign(**{name: viz.visible_tokens(table[name]) for name in columns[:3]}).round({"logits": 2})


# %% literal-text [markdown]
# ## Literal copying
#
# No model has met Miss Adelimba Marrowquist before; the second time, her name can only be copied.

# %% literal
STORY = (
    "Miss Adelimba Marrowquist was the keeper of the bell tower. Every morning Miss Adelimba Marrowquist opened "
    "the door of the bell tower, and every evening Miss Adelimba Marrowquist closed the door of the bell tower. "
    "The people of the town said that the bell tower was closed every evening and that Miss Adelimba Marrowquist "
    "had the key."
)
data, texts, attribution = look(STORY)
seen, again = set(), []
for dest, pair in enumerate(pairwise(data.ids)):
    if pair in seen:  # this token came after that one before
        again.append(dest)
    seen.add(pair)
literal = attribution[:, :, again].sum(dim=-1).mean(dim=-1)
print(f"{len(again)} of {len(texts) - 1} tokens came after the same token before")
head_map(literal, "What each head adds to the logits of these tokens, on average")

# %% literal-table
best = ranked(literal)
strongest(attribution, texts, best[0], again)

# %% literal-text-coloured
given = attribution[best[0].layer, best[0].head].sum(dim=-1).tolist()
viz.coloured_tokens(
    texts, [float("nan"), *given], title=f"What {best[0]} adds to the logit of each token", unit="logits"
)

# %% literal-view
view(STORY, best, literal, "Literal copying")

# %% literal-read [markdown]
# Here stands a picture of the view, with one token locked; run the cell to have the view itself (GitHub shows no
# scripts, and notebooks stay small without them). Hover over a token, or click to lock it. The list at the left sorts
# heads by any score; `j` and `k` go through them, the arrow keys through the text, `s` turns the direction round: who
# looks at this token, and whose logit it raised.

# %% translation-text [markdown]
# ## Translation
#
# When the French story is read, nothing in it was there before as a literal prefix. A head that finds the English word
# by its *meaning* can still look at what followed it. Scored here: the logits that a head moves to a French or German
# word from the English word of the same meaning.

# %% translation
ENGLISH = (
    "The old king sleeps in the big house. The small dog sees the moon and the young queen opens the door. The "
    "queen reads a long letter and the dog drinks the good milk. Then the small dog sleeps under the table and "
    "the old king dreams of the moon."
)
FRENCH = (
    "Le vieux roi dort dans la grande maison. Le petit chien voit la lune et la jeune reine ouvre la porte. La "
    "reine lit une longue lettre et le chien boit le bon lait. Puis le petit chien dort sous la table et le vieux "
    "roi rêve de la lune."
)
GERMAN = (
    "Der alte König schläft in dem großen Haus. Der kleine Hund sieht den Mond und die junge Königin öffnet die "
    "Tür. Die Königin liest einen langen Brief und der Hund trinkt die gute Milch. Dann schläft der kleine Hund "
    "unter dem Tisch und der alte König träumt von dem Mond."
)
WORDS = (
    "king roi König|house maison Haus|small petit kleine|dog chien Hund|sees voit sieht|moon lune Mond|"
    "queen reine Königin|opens ouvre öffnet|door porte Tür|reads lit liest|long longue langen|letter lettre Brief|"
    "drinks boit trinkt|good bon gute|milk lait Milch|under sous unter|dreams rêve träumt"
)
story = "\n".join([ENGLISH, FRENCH, GERMAN])
data, texts, attribution = look(story)
moved = []
for english, *others in (group.split() for group in WORDS.split("|")):
    for other in others:
        sources = places(texts, english)
        moved += [(place - 1, sources) for place in places(texts, other)]
translated = torch.stack([attribution[:, :, dest, sources].sum(dim=-1) for dest, sources in moved]).mean(dim=0)
print(f"{len(moved)} French and German words have their English word before them")
head_map(translated, "What each head moves to a word from its English translation, on average")

# %% translation-table
best = ranked(translated)
strongest(attribution, texts, best[0], [dest for dest, _ in moved])

# %% translation-view
view(story, best, translated, "Translation")

# %% pattern-text [markdown]
# ## Pattern matching
#
# Two words and a number per line; the number says of which kinds the words are: day and animal 0, day and fruit 1,
# colour and animal 2, colour and fruit 3. No line repeats a word, so at the colon a head has to look for lines of the
# same *kind*. Scored here: what a head moves to the right number from the numbers of lines of the same kind.

# %% pattern
LINES = """
Monday horse: 0
red apple: 3
Friday plum: 1
blue frog: 2
Sunday wolf: 0
green grape: 3
Tuesday melon: 1
white bear: 2
Thursday duck: 0
brown cherry: 3
Saturday pear: 1
grey goat: 2
""".strip()
data, texts, attribution = look(LINES)
numbers = {label: places(texts, label) for label in "0123"}
moved = [(place - 1, of[:before]) for of in numbers.values() for before, place in enumerate(of) if before]
matched = torch.stack([attribution[:, :, dest, sources].sum(dim=-1) for dest, sources in moved]).mean(dim=0)
head_map(matched, "What each head moves to a number from lines of the same kind, on average")

# %% pattern-table
best = ranked(matched)
strongest(attribution, texts, best[0], sorted(dest for dest, _ in moved))

# %% pattern-control
others = {dest: [place for of in numbers.values() for place in of if place < dest] for dest, _ in moved}
attention = data.pattern(best[0])
same = np.mean([float(attention[dest, sources].sum()) for dest, sources in moved])
every = np.mean([float(attention[dest, others[dest]].sum()) for dest, _ in moved])
print(f"{best[0]} at the colon: {same:.2f} of its attention on numbers of the same kind, {every - same:.2f} on others")

# %% pattern-view
view(LINES, best, matched, "Pattern matching")

# %% same-text [markdown]
# ## The same heads?
#
# The paper found that heads which translate or match patterns copy literally, too: one way of looking, at several
# levels of abstraction. Here every head that came first for one text, with what it does on the others and on repeated
# random tokens.

# %% same
heads = list(dict.fromkeys([*ranked(literal, 3), *ranked(translated, 2), *ranked(matched, 2)]))
columns = {"literal": literal, "translation": translated, "pattern": matched}
rows = {str(head): {name: float(values[head]) for name, values in columns.items()} for head in heads}
prefix = scores.to_tensor("prefix_matching")
pd.DataFrame(rows).T.assign(prefix_matching=[float(prefix[head]) for head in heads]).round(2)

# %% more [markdown]
# ## More
#
# `ih.induction_view(model, text).save("view.html")` writes any view as a page of its own that needs no network. What
# the heads of GPT-2 score, and what is lost without them: [gpt2_heads.ipynb](gpt2_heads.ipynb).

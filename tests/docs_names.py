"""What the documentation takes as given: models on the hub, `model`, `tokens`, `run`; small, and made when used."""

import builtins
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from demos.stand_ins import save_gpt2, save_neox
from tests.models.hub_stand_in import HubStandIn
from tests.models.huggingface_models import save_huggingface

_TEXT = "the cat sat on the mat and the dog lay on the log while the old man told the others what he thought of them\n"


class Prepared:
    """Names that pages use without making them; each is made once, when first used.

    Args:
        folder: where files of these objects may lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Any] = {"ih": ih, "torch": torch}

    def provide(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Put what this code uses, and nothing made so far, into its namespace."""
        for name in names_in(code) - namespace.keys() - vars(builtins).keys():
            if name in self._made or name in NAMES:
                namespace[name] = self[name]

    def __getitem__(self, name: str) -> Any:
        """A prepared object."""
        if name not in self._made:
            self._made[name] = NAMES[name](self)
        return self._made[name]

    def run(self, n_layers: int, name: str, seed: int = 0) -> ih.Run:
        """A short training on RestartCycle."""
        cfg = ih.attention_only(n_layers, d_model=16, n_heads=4, d_vocab=32, n_ctx=48)
        config = ih.TrainConfig(n_steps=20, batch_size=8, lr=3e-3, snapshots=ih.every(4), n_held_out=16, seed=seed)
        return ih.train(cfg, ih.RestartCycle(), config, out=self.folder / name, progress=False)


def names_in(code: CodeType) -> set[str]:
    """Every name that code reads or sets, in functions as well."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*(names_in(part) for part in inner))


def _model(prepared: Prepared) -> HookedTransformer:
    """Six layers of eight heads, so that heads such as L5H5 exist, and contexts of 512 tokens."""
    return ih.build_model(ih.attention_only(6, d_model=32, n_heads=8, d_vocab=256, n_ctx=512), seed=0)


def _tokens(prepared: Prepared) -> torch.Tensor:
    return torch.randint(0, 256, (4, 512), generator=torch.Generator().manual_seed(0))


NAMES: dict[str, Callable[[Prepared], Any]] = {
    "model": _model,
    "tokens": _tokens,
    "text_tokens": _tokens,
    "evals": lambda prepared: ih.EvalSet.from_tokens(prepared["tokens"], seed=0),
    "losses": lambda prepared: ih.token_losses(prepared["model"], prepared["evals"]),
    "ablated": lambda prepared: ih.ablate_heads(prepared["model"], prepared["evals"]),
    "scores": lambda prepared: ih.score_heads(prepared["model"]),
    "run": lambda prepared: prepared.run(2, "2L"),
    "runs": lambda prepared: [prepared.run(1, "1L"), prepared["run"]],
    "view": lambda prepared: ih.induction_view(prepared["model"], prepared["tokens"][0, :64], progress=False),
    "table": lambda prepared: ih.ModelAnalysisTable.from_runs(prepared["runs"], progress=False),
    "gpt2": lambda prepared: ih.load_model("gpt2"),
    "behaviours": lambda prepared: ih.behaviour_table(prepared["gpt2"], progress=False),
}
"""Every prepared name; pages and examples in docstrings use the same."""


def _folder_of_text(prepared: Prepared, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "text.txt").write_text(_TEXT * 400, encoding="utf8")


def _token_file(prepared: Prepared, place: Path) -> None:
    ih.tokenize_text([_TEXT * 400], place, vocab_size=280, progress=False)


def _run_at(n_layers: int) -> Callable[[Prepared, Path], None]:
    def lay(prepared: Prepared, place: Path) -> None:
        prepared.run(n_layers, str(place))

    return lay


def _run_on_pythia_tokens(prepared: Prepared, place: Path) -> None:
    tokens = torch.randint(0, 300, (40, 64), generator=torch.Generator().manual_seed(0))
    cfg = ih.attention_only(2, d_model=16, n_heads=4, d_vocab=2048, n_ctx=64)
    config = ih.TrainConfig(n_steps=4, batch_size=4, lr=3e-3, snapshots=ih.every(2))
    ih.train(cfg, ih.TensorCorpus(tokens, n_held_out=8), config, out=place, progress=False)


FILES: dict[str, Callable[[Prepared, Path], Any]] = {
    "runs/1L": _run_at(1),
    "runs/2L": _run_at(2),
    "runs/2L of pythia's tokens": _run_on_pythia_tokens,
    "runs/1L-smeared": _run_at(1),
    "models/my-llama": lambda prepared, place: save_huggingface(place, "llama"),
    "path/to/a/folder": lambda prepared, place: save_huggingface(place, "gpt2"),
    "models/mine": lambda prepared, place: save_huggingface(place, "llama"),
    "books": _folder_of_text,
    "tokens/python": _token_file,
}
"""Files and folders that pages take as being there; what follows " of " is not part of the path."""


def fill(hub: HubStandIn, folder: Path) -> None:
    """Publish stand-ins under the names that the documentation uses: planted heads, and tiny random models."""
    save_gpt2(folder / "gpt2", n_ctx=512)
    hub.add("gpt2", "main", folder / "gpt2")
    steps = [entry.step for entry in ih.published_checkpoints("pythia-70m")]
    for name, strength in (("early", 0.0), ("late", 1.0)):
        save_neox(folder / f"pythia_{name}", strength, n_ctx=512)
        for step in steps:
            if (step >= 3000) == (name == "late"):
                hub.add("EleutherAI/pythia-70m", f"step{step}", folder / f"pythia_{name}")
                hub.add("EleutherAI/pythia-160m", f"step{step}", folder / f"pythia_{name}")
    save_huggingface(folder / "llama", "llama")
    for revision in ("main", "v1"):
        hub.add("someone/llama-finetuned", revision, folder / "llama")
    hub.add("EleutherAI/pythia-70m", "main", folder / "pythia_late")

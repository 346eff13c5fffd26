"""What a run's `run.json` says, and the files that belong to a run from its beginning."""

import hashlib
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import save
from torch import Tensor

from ih_lens.clamping.plan import Plan
from ih_lens.data.corpus import Corpus
from ih_lens.models.config_json import config_to_json
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.runs import HELD_OUT_FILE
from ih_lens.models.smeared_keys import has_smeared_keys
from ih_lens.models.tokenizers import TOKENIZER_FILE
from ih_lens.training.config import TrainConfig
from ih_lens.training.stepper import forward_for, precision_for

MOST_HELD_OUT = 1000


def describe(
    model: HookedTransformer, corpus: Corpus, config: TrainConfig, plan: Plan
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a run, and the contents of its files by name."""
    files: dict[str, bytes] = {}
    held_out = _held_out(corpus, config.n_held_out)
    if len(held_out):
        files[HELD_OUT_FILE] = save({"tokens": held_out.to(torch.int32).contiguous()})
    if corpus.tokenizer is not None:
        files[TOKENIZER_FILE] = corpus.tokenizer.to_str().encode()
    device = next(model.parameters()).device
    manifest = {
        "model": config_to_json(model.cfg),
        "smeared_keys": has_smeared_keys(model),
        "training": config.to_json(),
        "corpus": corpus.describe(),
        "tokenizer": _tokenizer(corpus, files.get(TOKENIZER_FILE)),
        "held_out_sha256": _sha256(files.get(HELD_OUT_FILE)),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_per_step": config.batch_size * corpus.n_pos,
        "precision": precision_for(config, device, model.cfg.d_model),
        "forward": forward_for(model, clamped=len(plan) > 0),
        "device": str(device),
        "n_threads": torch.get_num_threads(),
    }
    if len(plan):
        manifest["clamps"] = plan.to_json()
    return manifest, files


def _held_out(corpus: Corpus, n: int | None) -> Int[Tensor, "example pos"]:
    """As many as asked for; by default what the corpus sets aside, up to a thousand."""
    if n is None:
        set_aside = corpus.describe().get("n_held_out", 0)
        n = MOST_HELD_OUT if corpus.n_examples is None else min(MOST_HELD_OUT, set_aside)
    return corpus.held_out(n) if n else torch.empty(0, corpus.n_pos, dtype=torch.int64, device="cpu")


def _tokenizer(corpus: Corpus, content: bytes | None) -> dict[str, Any] | None:
    """What a snapshot must know to be given the right tokenizer."""
    if corpus.tokenizer is None:
        return None
    bos_token = None if corpus.bos is None else corpus.tokenizer.id_to_token(corpus.bos)
    return {"sha256": _sha256(content), "bos": corpus.bos, "bos_token": bos_token}


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()

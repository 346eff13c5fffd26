"""Taking a Hugging Face model apart into a TransformerLens configuration and weights, and building those."""

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.errors import CapabilityError, IHLensError, InputError
from ih_lens.models.architectures import official_name
from ih_lens.models.construction import build_model
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.models.hooked_transformer import loading_from_pretrained as transformer_lens_loading
from ih_lens.models.own_configurations import configuration_fields
from ih_lens.models.same_logits import probe_tokens

_LONGEST_CONTEXT = 2048
"""Positions of models without learned ones, unless asked otherwise: TransformerLens holds a mask of n_ctx x n_ctx per
layer, 17 GB at 131072."""
_FAILURES = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class Parts:
    """What is needed of an original model; the model itself can be freed."""

    name: str
    cfg: HookedTransformerConfig
    weights: dict[str, Tensor]
    tokens: Int[Tensor, "1 pos"]
    logits: Float[Tensor, "1 pos d_vocab_out"]


def take_apart(model: Any, *, name: str, device: str, dtype: torch.dtype, n_ctx: int | None = None) -> Parts:
    """Configuration, weights and some logits of a Hugging Face model, which stays as it was.

    Args:
        model: the model; weights may share its memory until they are assembled.
        name: a repository, folder or class, for messages.
        device: of the model to build.
        dtype: of the model to build.
        n_ctx: positions of the model to build.

    Raises:
        CapabilityError: if TransformerLens fails to convert it.
    """
    try:
        with _undisturbed(model):
            architecture = type(model).__name__
            cfg = hooked_configuration(architecture, model.config, name=name, device=device, dtype=dtype, n_ctx=n_ctx)
            tokens = probe_tokens(model.config.vocab_size, cfg.n_ctx, cfg.window_size if cfg.use_local_attn else None)
            place = model.get_input_embeddings().weight.device
            with _eager_attention(model):
                logits = model(input_ids=tokens.to(place), use_cache=False).logits.cpu()
            weights = _weights(model, cfg)
    except IHLensError:
        raise
    except _FAILURES as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise CapabilityError(
            f"TransformerLens fails to convert {name} ({type(model).__name__}): {reason}. Measure a TransformerBridge "
            "of it instead"
        ) from error
    return Parts(name, cfg, weights, tokens, logits)


def assemble(parts: Parts) -> HookedTransformer:
    """The `HookedTransformer` with these weights, which are used up one by one.

    Raises:
        CapabilityError: if weights are missing or have other sizes than the configuration says.
    """
    device = parts.cfg.device
    parts.cfg.device = "cpu"
    model = build_model(parts.cfg)
    model.cfg.init_weights = True
    for name, parameter in model.named_parameters():
        weight = parts.weights.pop(name, None)
        if weight is None:
            _fill(name, parameter, parts)
            continue
        if weight.shape != parameter.shape and (weight.numel(), parameter.numel()) != (1, 1):
            raise CapabilityError(
                f"TransformerLens converts {parts.name} wrongly: {name} has shape {tuple(weight.shape)}, its "
                f"configuration says {tuple(parameter.shape)}. Measure a TransformerBridge of it instead"
            )
        parameter.data.copy_(weight.reshape(parameter.shape))
    model.cfg.device = device
    model.move_model_modules_to_device()
    return model.eval()


def _fill(name: str, parameter: Tensor, parts: Parts) -> None:
    """What a conversion leaves out: gains are built as ones and biases as zeros; the logits show if that is wrong."""
    if name == "pos_embed.W_pos" and parts.cfg.positional_embedding_type == "alibi":
        parameter.data.zero_()  # there is such a matrix, which no such model reads
    elif name.rsplit(".", 1)[-1].lstrip("_").startswith("W_"):
        raise CapabilityError(f"TransformerLens converts {parts.name} wrongly: {name} is missing")


def hooked_configuration(
    architecture: str, config: Any, *, name: str, device: str, dtype: torch.dtype, n_ctx: int | None = None
) -> HookedTransformerConfig:
    """TransformerLens's configuration of a model, read from its Hugging Face one.

    Args:
        architecture: the model's class in `transformers`.
        config: the model's own configuration.
        name: a repository, folder or class; its last part becomes `model_name`.
        device: of the model to build.
        dtype: of the model to build.
        n_ctx: positions; by default the model's own, where positions are not learned at most 2048.
    """
    settings: dict[str, Any] = {"device": device, "dtype": dtype}
    fields = configuration_fields(architecture, config)
    if fields is not None:
        cfg = HookedTransformerConfig(**fields, **settings)
    else:
        with _folder_of(architecture, config) as folder:
            cfg = transformer_lens_loading.get_pretrained_model_config(str(folder), **settings)
    cfg.model_name = name.rstrip("/").split("/")[-1]
    cfg.tokenizer_name = None  # or building would look for it on the hub; the tokenizer is attached afterwards
    longest = getattr(config, "max_position_embeddings", None) or cfg.n_ctx
    if cfg.positional_embedding_type != "standard":
        cfg.n_ctx = n_ctx or min(longest, _LONGEST_CONTEXT)
    elif (official_name(name) or "").startswith("roneneldan/TinyStories"):
        cfg.n_ctx = min(n_ctx or 512, cfg.n_ctx)  # their configuration says 2048, but they were trained on 512
    else:
        cfg.n_ctx = min(n_ctx or cfg.n_ctx, cfg.n_ctx)
    cfg.d_mlp = getattr(config, "n_inner", None) or cfg.d_mlp
    return cfg


def _weights(model: Any, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """The weights under TransformerLens's names; they may share memory with the model's."""
    with tempfile.TemporaryDirectory() as folder:  # only has to exist: the weights are the given model's
        weights = transformer_lens_loading.get_pretrained_state_dict(folder, cfg, hf_model=model, dtype=cfg.dtype)
    positions = weights.get("pos_embed.W_pos")
    if positions is not None:
        weights["pos_embed.W_pos"] = positions[: cfg.n_ctx]
    return {name: weight.detach() for name, weight in weights.items()}


@contextmanager
def _folder_of(architecture: str, config: Any) -> Generator[Path]:
    """A folder that holds nothing but the model's configuration.

    TransformerLens looks into paths for names of models, so that "llama" in a path makes everything below it a Llama.
    """
    with tempfile.TemporaryDirectory() as name:
        if any(word in name.lower() for word in ("llama", "gemma")):
            raise InputError(f"the folder for temporary files, {name}, must not be named after a model; set TMPDIR")
        record = config.to_dict() | {"architectures": [architecture]}
        record.setdefault("n_ctx", record.get("n_positions"))  # GPT-2's, which newer files leave out
        (Path(name) / "config.json").write_text(json.dumps(record, default=str), encoding="utf8")
        yield Path(name)


@contextmanager
def _eager_attention(model: Any) -> Generator[None]:
    """Attention as the architecture says: up to some version, transformers' `sdpa` leaves out Gemma-2's soft cap."""
    before = model.config._attn_implementation  # the setter has no public counterpart that reads
    if before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _undisturbed(model: torch.nn.Module) -> Generator[None]:
    """Evaluation mode without gradients, and everything as it was afterwards: TransformerLens freezes parameters."""
    training = [module for module in model.modules() if module.training]
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module in training:
            module.training = True
        for parameter, requires_grad in frozen:
            parameter.requires_grad_(requires_grad)

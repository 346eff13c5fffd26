"""Models in the Hugging Face format as `HookedTransformer`s: live ones, folders, and repositories of the hub."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ih_lens.errors import DamagedFileError, IHLensError
from ih_lens.models.architectures import (
    language_model_class,
    require_convertible,
    require_decoder,
    require_not_quantized,
    require_plain_weights,
)
from ih_lens.models.conversion import Parts, assemble, take_apart
from ih_lens.models.folder_checks import check_folder, check_parameters, check_sizes
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.hub_errors import explain
from ih_lens.models.hub_files import cached_commit
from ih_lens.models.processing import process_weights
from ih_lens.models.same_logits import largest_difference

_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"


def to_hooked(
    hf_model: PreTrainedModel,
    *,
    name: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    n_ctx: int | None = None,
    process: bool = False,
) -> tuple[HookedTransformer, float]:
    """Convert a live model; it stays as it was, and shares no memory with the result.

    Both then run on about 32 fixed ids, because some conversions are wrong without a word. While converting there are
    up to three copies of the weights: the original's, rearranged ones that are freed one by one, and the result's.

    Args:
        hf_model: a causal language model of `transformers`, on any device and in any mode.
        name: for messages; its class by default.
        device: of the result; the original's by default.
        dtype: of the result; the original's by default.
        n_ctx: positions of the result.
        process: fold LayerNorm and value biases and centre the weights.

    Returns:
        The converted model, in evaluation mode and without a tokenizer; the largest difference between its logits and
        the original's.

    Raises:
        CapabilityError: if TransformerLens cannot convert it, or converts it wrongly.

    Examples:
        >>> model, difference = to_hooked(AutoModelForCausalLM.from_pretrained("gpt2"))
    """
    name = name or type(hf_model).__name__
    require_decoder([type(hf_model).__name__], hf_model.config, name)
    require_convertible(type(hf_model).__name__, hf_model.config, name)
    require_plain_weights(hf_model, name)
    weight = next(hf_model.parameters())
    place, dtype = device or str(weight.device), dtype or weight.dtype
    return _built(take_apart(hf_model, name=name, device=place, dtype=dtype, n_ctx=n_ctx), process)


def load_huggingface(
    place: str,
    *,
    name: str,
    revision: str | None,
    device: str,
    dtype: torch.dtype,
    n_ctx: int | None,
    process: bool,
) -> tuple[HookedTransformer, float, str | None]:
    """Load and convert what lies in a folder or a repository of the hub; the original is freed before the result moves.

    Args:
        place: a folder or a repository.
        name: what messages and the configuration call it.
        revision: branch, tag or commit, for a repository.
        device: of the result.
        dtype: of the result; the original is loaded in it as well.
        n_ctx: positions of the result.
        process: fold LayerNorm and value biases and centre the weights.

    Returns:
        The model without a tokenizer, the largest difference of its logits from the original's, and the commit.

    Raises:
        InputError: if there is no such model, or the hub cannot be reached.
        DamagedFileError: if files are truncated or weights missing.
        CapabilityError: if TransformerLens cannot convert it, or converts it wrongly.
    """
    try:
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            original, commit = _original(place, name=name, revision=revision, dtype=dtype)
    except IHLensError:
        raise
    except Exception as error:  # whatever transformers, the hub or a file brings
        raise explain(error, name, revision) from error
    parts = take_apart(original, name=name, device=device, dtype=dtype, n_ctx=n_ctx)
    del original
    model, difference = _built(parts, process)
    return model, difference, commit


def _original(place: str, *, name: str, revision: str | None, dtype: torch.dtype) -> tuple[PreTrainedModel, str | None]:
    """The model as `transformers` loads it, refused by its configuration before weights are read or downloaded."""
    folder = Path(place) if Path(place).is_dir() else None
    if folder is not None:
        check_folder(folder)
    config: Any = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
    require_decoder(config.architectures or [], config, name)
    require_convertible(str(language_model_class(config)), config, name)
    if folder is not None:
        check_sizes(folder, config.get_text_config())
    require_not_quantized(config, name)
    if folder is not None:
        check_parameters(folder, config)
    commit = None if folder is not None else cached_commit(place, revision)
    settings: dict[str, Any] = {"config": config, "revision": commit or revision, "dtype": dtype}
    # eager attention is what the architecture says; others leave parts of some out
    settings |= {"attn_implementation": "eager", "trust_remote_code": False, "output_loading_info": True}
    settings |= {"ignore_mismatched_sizes": True}  # so that they are reported, and refused here
    loaded: Any = AutoModelForCausalLM.from_pretrained(place, **settings)
    original, report = loaded
    missing = sorted(report["missing_keys"]) + [f"{entry[0]} (another shape)" for entry in report["mismatched_keys"]]
    if missing or report["error_msgs"]:
        raise DamagedFileError(
            f"{name}: the files hold no weights for {', '.join(missing[:4]) or report['error_msgs'][0]}"
            f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}, which transformers would draw at random; "
            "restore the files, or save the model with its language-model head"
        )
    return original.eval(), commit


def _built(parts: Parts, process: bool) -> tuple[HookedTransformer, float]:
    """The model from its parts, compared with the original; once more where processing follows."""
    model = assemble(parts)
    difference = largest_difference(model, parts.tokens, parts.logits, name=parts.name)
    if process:
        process_weights(model)
        difference = largest_difference(model, parts.tokens, parts.logits, name=parts.name, up_to_a_constant=True)
    return model, difference


@contextmanager
def _quiet_transformers() -> Generator[None]:
    """Without the progress bar of reading weights and without warnings: what matters of them is raised.

    And without the request that transformers sends to the hub in the background for repositories that hold PyTorch
    files only, to have them converted.
    """
    before = os.environ.get(_NO_CONVERSION)
    os.environ[_NO_CONVERSION] = "1"
    bar, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        os.environ.pop(_NO_CONVERSION)
        if before is not None:
            os.environ[_NO_CONVERSION] = before
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()

"""Loading models from wherever they are: memory, a snapshot, a folder, the Hugging Face hub."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel

from ih_lens.errors import InputError
from ih_lens.models.architectures import official_name
from ih_lens.models.capabilities import require_causal
from ih_lens.models.checkpoints import family_of, published_checkpoints
from ih_lens.models.hooked_repositories import is_hooked_repository, load_hooked
from ih_lens.models.hooked_transformer import HookedTransformer, LoadedModel, require_hooked_transformer
from ih_lens.models.huggingface import load_huggingface, to_hooked
from ih_lens.models.huggingface_tokenizers import attach, tokenizer_from, tokenizer_of
from ih_lens.models.origin import Origin, origin_of, record_origin
from ih_lens.models.processing import process_weights, require_processable
from ih_lens.models.runs import RUN_RECORD, Run
from ih_lens.models.snapshots import SNAPSHOT_RECORD, Snapshot
from ih_lens.validate import path_of

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class _Settings:
    """What was asked for beside the model itself; None and False where nothing was."""

    device: str | None
    dtype: torch.dtype | None
    revision: str | None
    checkpoint: int | None
    process: bool
    tokenizer: Any
    n_ctx: int | None

    def refuse(self, what: str, *names: str) -> None:
        """Raise if one of these settings was given for a kind of reference that has no use for it."""
        for name in names:
            if getattr(self, name) is not None and getattr(self, name) is not False:
                raise InputError(f"{name}= does not apply to {what}; leave it out")


@overload
def load_model(ref: TransformerBridge) -> TransformerBridge: ...
@overload
def load_model(
    ref: HookedTransformer | PreTrainedModel | Snapshot | str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    checkpoint: int | None = None,
    process: bool = False,
    tokenizer: Any = None,
    n_ctx: int | None = None,
) -> HookedTransformer: ...
def load_model(
    ref: LoadedModel | PreTrainedModel | Snapshot | Run | str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    checkpoint: int | None = None,
    process: bool = False,
    tokenizer: Any = None,
    n_ctx: int | None = None,
) -> LoadedModel:
    """Load a model, with its weights as they were trained.

    Zero ablation depends on whether value biases were folded into output biases, so nothing is folded or centred
    unless asked; weight-based measures give the same either way. A model of `transformers` is converted by
    TransformerLens and then compared with the original on some ids, so that no conversion is wrong unnoticed.

    Args:
        ref: a name on the Hugging Face hub ("gpt2", "pythia-70m", "organisation/name"), a folder in the Hugging Face
            format, a live model of `transformers`, a `HookedTransformer` or bridge (comes back as it is), or a
            `Snapshot` or its folder.
        device: where to put it; the CPU by default, never a GPU by itself; a live model stays where it is.
        dtype: of the weights; as saved for snapshots, as they are for live models, else float32 by default.
        revision: branch, tag or commit on the hub.
        checkpoint: training step, for the hub's models with published checkpoints (Pythia, Stanford's GPT-2, the
            attention-only models of TransformerLens).
        process: fold LayerNorm and value biases and centre the weights, as TransformerLens's `from_pretrained` does.
        tokenizer: a tokenizer.json, a folder, or a tokenizer of `transformers`, instead of the model's own.
        n_ctx: longest context of the converted model; by default the original's, for models without learned positions
            at most 2048, because TransformerLens holds masks of n_ctx x n_ctx.

    Returns:
        The model, a `HookedTransformer` in evaluation mode or what was given. `origin_of` and every result tell where
        it came from, its commit, and whether it was processed.

    Raises:
        InputError: if nothing is found under the reference, the hub cannot be reached or does not give it, or a
            setting does not apply to it.
        DamagedFileError: if files are truncated or weights missing.
        CapabilityError: if the model is no decoder, TransformerLens cannot convert it or converts it wrongly, or
            `process` is asked for a model that it would change; under transformer-lens 4.x for all but models in
            memory, with the lines that make a bridge.

    Examples:
        >>> model = load_model("pythia-70m", checkpoint=512)
        >>> model = load_model("models/my-llama", dtype=torch.bfloat16, device="cuda")
    """
    settings = _Settings(
        _checked_device(device), _checked_dtype(dtype), revision, checkpoint, process, tokenizer, n_ctx
    )
    if isinstance(ref, str):
        path_of("model", ref)  # what is no path is no name on the hub either
    for load in LOADERS.values():
        model = load(ref, settings)
        if model is not None:
            require_causal(model)
            return model
    raise InputError(
        f"no model under {str(ref)!r}: expected a model, a snapshot or its folder, a folder with a config.json and "
        "weights, or a name on the hub; check the spelling and the working directory"
    )


def _checked_device(device: str | torch.device | None) -> str | None:
    """The device's name, refused before anything is loaded if it is not there."""
    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device: {str(device)!r} cannot be used here; give 'cpu', or 'cuda' or 'mps' on a machine that has one"
        ) from error
    return str(device)


def _checked_dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in _DTYPES):
        return dtype
    raise InputError(f"dtype: expected one of {', '.join(map(str, _DTYPES))}, got {dtype!r}")


def _live(ref: Any, settings: _Settings) -> LoadedModel | None:
    if not isinstance(ref, HookedTransformer | TransformerBridge):
        return None
    names = ("device", "dtype", "revision", "checkpoint", "process", "tokenizer", "n_ctx")
    settings.refuse("a model in memory", *names)
    return ref


def _live_huggingface(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, PreTrainedModel):
        return None
    settings.refuse("a live Hugging Face model", "revision", "checkpoint")
    name = type(ref).__name__
    require_hooked_transformer(f"a {name}", '"mine", hf_model=...')
    options: dict[str, Any] = {"device": settings.device, "dtype": settings.dtype, "n_ctx": settings.n_ctx}
    model, difference = to_hooked(ref, process=settings.process, **options)
    came_from = getattr(ref.config, "_name_or_path", "") or name
    origin = Origin(
        "Hugging Face model",
        came_from,
        commit=getattr(ref.config, "_commit_hash", None),
        processed=settings.process,
        largest_difference=difference,
    )
    return _finished(model, origin, settings, None)


def _snapshot(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, Snapshot):
        if not isinstance(ref, str | Path) or not (Path(ref) / SNAPSHOT_RECORD).is_file():
            return None
        ref = Snapshot(ref)
    settings.refuse("a snapshot", "revision", "checkpoint", "n_ctx")
    if settings.process:
        require_processable(ref.cfg)
    model = ref.load(device=settings.device or "cpu", dtype=settings.dtype)
    if settings.process:
        process_weights(model)
        record_origin(model, replace(origin_of(model) or Origin("snapshot", str(ref)), processed=True))
    if settings.tokenizer is not None:
        return _finished(model, Origin("snapshot", str(ref), processed=settings.process), settings, None)
    return model


def _run(ref: Any, settings: _Settings) -> None:  # noqa: ARG001 every loader has both
    if isinstance(ref, Run) or (isinstance(ref, str | Path) and (Path(ref) / RUN_RECORD).is_file()):
        place = ref.path if isinstance(ref, Run) else ref
        raise InputError(
            f"{place} is a run, which holds many models; choose a snapshot, such as "
            f"open_run({str(place)!r}).snapshots[-1]"
        )


def _folder(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, str | Path) or not (Path(ref) / "config.json").is_file():
        return None
    settings.refuse("a folder", "revision", "checkpoint")
    place = str(Path(ref).absolute())
    require_hooked_transformer(place, f'{place!r}, device="cpu"')
    return _converted(place, Origin("folder", place, processed=settings.process), settings)


def _hub(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, str) or Path(ref).exists():
        return None
    if settings.revision is not None and settings.checkpoint is not None:
        raise InputError("revision= and checkpoint= both choose the weights; give one of them")
    require_hooked_transformer(ref, f'{ref!r}, device="cpu"')
    repository = official_name(ref) or ref
    origin = Origin("hub", repository, settings.revision, processed=settings.process)
    if is_hooked_repository(repository):
        return _hooked_repository(origin, settings)
    if settings.checkpoint is not None:
        origin = replace(origin, revision=_revision_of(repository, settings.checkpoint))
    return _converted(repository, origin, settings)


def _hooked_repository(origin: Origin, settings: _Settings) -> HookedTransformer:
    """A repository in TransformerLens's own format."""
    settings.refuse("a model in TransformerLens's own format", "n_ctx")
    chosen: dict[str, Any] = {"revision": settings.revision, "checkpoint": settings.checkpoint}
    chosen |= {"device": settings.device or "cpu", "dtype": settings.dtype or torch.float32}
    model, commit, tokenizer = load_hooked(origin.name, process=settings.process, **chosen)
    if settings.checkpoint is not None:
        origin = replace(origin, revision=f"checkpoint {settings.checkpoint}")
    return _finished(model, replace(origin, commit=commit), settings, tokenizer)


def _converted(place: str, origin: Origin, settings: _Settings) -> HookedTransformer:
    """A folder or repository in the Hugging Face format."""
    model, difference, commit = load_huggingface(
        place,
        name=place,
        revision=origin.revision,
        device=settings.device or "cpu",
        dtype=settings.dtype or torch.float32,
        n_ctx=settings.n_ctx,
        process=settings.process,
    )
    return _finished(model, replace(origin, commit=commit, largest_difference=difference), settings, place)


def _finished(
    model: HookedTransformer, origin: Origin, settings: _Settings, tokenizer_place: str | None
) -> HookedTransformer:
    """The model with its tokenizer, or the one that was given, and with its origin."""
    tokenizer, came_from = None, tokenizer_place
    if settings.tokenizer is not None:
        tokenizer, came_from = tokenizer_from(settings.tokenizer)
    elif tokenizer_place is not None:
        revision = (origin.commit or origin.revision) if tokenizer_place == origin.name else None
        tokenizer = tokenizer_of(tokenizer_place, revision)
    if tokenizer is not None:
        start = attach(model, tokenizer, given=settings.tokenizer is not None)
        origin = replace(origin, tokenizer=came_from, start_token=start)
    record_origin(model, origin)
    return model


def _revision_of(repository: str, step: int) -> str:
    """The branch that holds a training step."""
    family = family_of(repository)
    if family is None:
        raise InputError(
            f"{repository}: no published training steps are known; give revision= one of its branches instead"
        )
    found = {checkpoint.step: checkpoint.revision for checkpoint in published_checkpoints(repository)}
    if step not in found:
        nearest = sorted(sorted(found, key=lambda known: abs(known - step))[:4])
        raise InputError(
            f"{repository} has no checkpoint at step {step}; the nearest of {len(found)} are "
            f"{', '.join(map(str, nearest))}"
        )
    return found[step]


LOADERS: dict[str, Callable[[Any, _Settings], LoadedModel | None]] = {
    "live": _live,
    "live Hugging Face model": _live_huggingface,
    "snapshot": _snapshot,
    "run": _run,
    "folder": _folder,
    "hub": _hub,
}
"""What a reference can be, asked in this order; each gives None for what is not its own."""

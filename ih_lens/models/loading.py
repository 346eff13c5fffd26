"""Loading models from wherever they are: memory, a snapshot, the Hugging Face hub."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import torch
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge

from ih_lens.errors import CapabilityError, InputError
from ih_lens.models.construction import quiet_construction
from ih_lens.models.runs import RUN_RECORD, Run
from ih_lens.models.snapshots import SNAPSHOT_RECORD, Snapshot

LoadedModel: TypeAlias = HookedTransformer | TransformerBridge


@dataclass(frozen=True)
class _Settings:
    """What was asked for beside the model itself; None and False where nothing was."""

    device: str | None
    dtype: torch.dtype | None
    revision: str | None
    checkpoint: int | None
    process: bool

    def refuse(self, what: str, *names: str) -> None:
        """Raise if one of these settings was given for a kind of reference that has no use for it."""
        for name in names:
            if getattr(self, name) is not None and getattr(self, name) is not False:
                raise InputError(f"{name}= does not apply to {what}; leave it out")


@overload
def load_model(ref: TransformerBridge) -> TransformerBridge: ...
@overload
def load_model(
    ref: HookedTransformer | Snapshot | str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    checkpoint: int | None = None,
    process: bool = False,
) -> HookedTransformer: ...
def load_model(
    ref: LoadedModel | Snapshot | str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    checkpoint: int | None = None,
    process: bool = False,
) -> LoadedModel:
    """Load a model, with its weights as they were trained.

    Zero ablation depends on whether value biases were folded into output biases, so nothing is folded or centred
    unless asked; weight-based measures give the same either way.

    Args:
        ref: a model in memory (comes back as it is), a `Snapshot` or its folder, or a name on the Hugging Face hub
            that TransformerLens knows, such as "gpt2" or "pythia-70m".
        device: where to put it; the CPU by default, never a GPU by itself.
        dtype: of the weights; as saved for snapshots and float32 from the hub by default.
        revision: branch, tag or commit on the hub.
        checkpoint: training step, for the hub's models with checkpoints (Pythia, Stanford's GPT-2).
        process: fold LayerNorm and value biases and centre the weights, as TransformerLens's `from_pretrained` does.

    Returns:
        The model: a `HookedTransformer`, or the bridge that was given.

    Raises:
        InputError: if nothing is found under the reference, or a setting does not apply to it.
        CapabilityError: if `process` is asked for a model that it would change.

    Examples:
        >>> model = load_model("pythia-70m", checkpoint=512)
    """
    settings = _Settings(device, dtype, revision, checkpoint, process)
    for load in LOADERS.values():
        model = load(ref, settings)
        if model is not None:
            return model
    raise InputError(
        f"no model under {str(ref)!r}: expected a model, a snapshot or its folder, or a name on the hub that "
        "TransformerLens knows; check the spelling and the working directory"
    )


def _live(ref: Any, settings: _Settings) -> LoadedModel | None:
    if not isinstance(ref, HookedTransformer | TransformerBridge):
        return None
    settings.refuse("a model in memory", "device", "dtype", "revision", "checkpoint", "process")
    return ref


def _snapshot(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, Snapshot):
        if not isinstance(ref, str | Path) or not (Path(ref) / SNAPSHOT_RECORD).is_file():
            return None
        ref = Snapshot(ref)
    settings.refuse("a snapshot", "revision", "checkpoint")
    if settings.process:
        _require_processable(ref.cfg)
    model = ref.load(device=settings.device or "cpu", dtype=settings.dtype)
    if settings.process:
        model.process_weights_()
    return model


def _run(ref: Any, settings: _Settings) -> None:  # noqa: ARG001 every loader has both
    if isinstance(ref, Run) or (isinstance(ref, str | Path) and (Path(ref) / RUN_RECORD).is_file()):
        place = ref.path if isinstance(ref, Run) else ref
        raise InputError(
            f"{place} is a run, which holds many models; choose a snapshot, such as "
            f"open_run({str(place)!r}).snapshots[-1]"
        )


def _hub(ref: Any, settings: _Settings) -> HookedTransformer | None:
    if not isinstance(ref, str) or Path(ref).exists():
        return None
    if settings.revision is not None and settings.checkpoint is not None:
        raise InputError("revision= and checkpoint= both choose the weights; give one of them")
    chosen: dict[str, Any] = {"device": settings.device or "cpu", "dtype": settings.dtype or torch.float32}
    if settings.revision is not None:
        chosen["revision"] = settings.revision
    if settings.checkpoint is not None:
        chosen["checkpoint_value"] = settings.checkpoint
    load = HookedTransformer.from_pretrained if settings.process else HookedTransformer.from_pretrained_no_processing
    try:
        with quiet_construction(), torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            model = load(ref, **chosen)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"no model {ref!r} could be loaded: there is no such folder, and the hub or TransformerLens says: "
            f"{str(error).splitlines()[0][:200]}. Check the name, the revision or checkpoint, and the connection"
        ) from error
    if settings.process:
        _require_processable(model.cfg)
    return model


def _require_processable(cfg: Any) -> None:
    """Refuse models that folding and centring would change."""
    if cfg.positional_embedding_type == "shortformer":
        raise CapabilityError(
            "models with shortformer positions can be neither folded nor centred: positions are added after LayerNorm, "
            "so the model would become another one. Leave out process=True; weight-based measures need no folding"
        )


LOADERS: dict[str, Callable[[Any, _Settings], LoadedModel | None]] = {
    "live": _live,
    "snapshot": _snapshot,
    "run": _run,
    "hub": _hub,
}
"""What a reference can be, asked in this order; each gives None for what is not its own."""

"""What goes wrong on the way to a model on the Hugging Face hub, said with what to do about it."""

from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from ih_lens.errors import CapabilityError, DamagedFileError, IHLensError, InputError
from ih_lens.models.hub_retries import causes, hub_said, is_transient

_NOT_WHOLE = (
    "Unrecognized model",
    "does not appear to have a file named",
    "no file named",
    "No such file or directory",
)


def explain(error: BaseException, name: str, revision: str | None = None) -> IHLensError:
    """The error to raise instead, with the same cause.

    Args:
        error: what loading raised.
        name: the repository or folder.
        revision: as it was asked for.

    Returns:
        A `DamagedFileError` for truncated or altered files, a `CapabilityError` for models that nothing here can
        read, else an `InputError`.

    Examples:
        >>> raise explain(error, "gpt2", "v9") from error
    """
    chain = list(causes(error))
    where = name if revision is None else f"{name} at revision {revision!r}"
    said = "; ".join(str(error).splitlines()[:1])[:200] or type(error).__name__
    if any(isinstance(cause, IHLensError) for cause in chain):
        return next(cause for cause in chain if isinstance(cause, IHLensError))
    if _is_damage(chain):
        cached = f"load again, and if it stays so delete it from the cache ({constants.HF_HUB_CACHE})"
        what = "restore it from a copy" if Path(name).exists() else cached
        return DamagedFileError(f"{where}: a file is truncated or altered ({said}); {what}")
    if any(isinstance(cause, HFValidationError) for cause in chain):
        return InputError(
            f"no model {name!r} could be loaded: there is no such folder, and names on the hub are "
            '"organisation/name"; check the spelling and the working directory'
        )
    if any(isinstance(cause, GatedRepoError) for cause in chain):
        return InputError(
            f"{name} is gated: accept its licence on https://huggingface.co/{name} while logged in, and set HF_TOKEN "
            "to a token of the same account (or run `hf auth login`)"
        )
    if any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        return InputError(
            f"{name} has no revision {revision!r}; branches and tags are listed on "
            f"https://huggingface.co/{name}/tree/main, and a commit is 40 hexadecimal digits"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return InputError(
            f"no model {name!r} could be loaded: there is no such folder and no such public repository on the hub; "
            'check the spelling ("organisation/name"), and set HF_TOKEN if the repository is private'
        )
    if any(isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled) for cause in chain) or is_transient(error):
        return _unreachable(name, where, hub_said(error) or said)
    if any(isinstance(cause, EntryNotFoundError) for cause in chain):
        return InputError(f"{where} holds no model in the Hugging Face format ({said}); check the repository's files")
    return _from_text(said, str(error), name, where)


def _unreachable(name: str, where: str, said: str) -> InputError:
    if constants.HF_HUB_OFFLINE:
        return InputError(
            f"no model {name!r} could be loaded: there is no such folder, {where} is not in the cache "
            f"({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids the network; unset it once, or give a folder"
        )
    return InputError(
        f"no model {name!r} could be loaded: there is no such folder, {where} is not whole in the cache "
        f"({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} cannot be reached ({said}); check the connection and "
        "load again, which goes on where it stopped"
    )


def _from_text(said: str, text: str, name: str, where: str) -> IHLensError:
    """What `transformers` says in words only."""
    if "trust_remote_code" in text:
        return InputError(
            f"{name} needs code from its own repository, which load_model never runs; read that code, load the model "
            "with AutoModelForCausalLM.from_pretrained(..., trust_remote_code=True), and pass the model"
        )
    if "Weights only load failed" in text or "Detected pickle protocol" in text:
        return DamagedFileError(
            f"{where}: a PyTorch file holds more than tensors, and reading it would run what it says, which load_model "
            "never does; give the weights as safetensors"
        )
    if "does not recognize this architecture" in text or "Unrecognized configuration class" in text:
        return CapabilityError(f"{where} is of a type that this version of transformers does not know: {said}")
    if any(words in text for words in _NOT_WHOLE):
        advice = "check its files" if Path(name).exists() else "check its files on the hub, or load again if it failed"
        return InputError(f"{where} holds no whole model in the Hugging Face format: {said.rstrip('.')}; {advice}")
    return InputError(
        f"no model {where!r} could be loaded: {said}. Check the name, the revision or checkpoint, and the connection"
    )


def _is_damage(chain: list[BaseException]) -> bool:
    words = ("Consistency check failed", "is not a valid JSON file", "Unable to load weights from pytorch checkpoint")
    return any(
        isinstance(cause, SafetensorError | EOFError) or any(word in str(cause) for word in words) for cause in chain
    )

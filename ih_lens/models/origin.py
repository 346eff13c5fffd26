"""Where a model came from: kept on the model by what loaded it, and written into every result measured on it."""

from dataclasses import dataclass
from typing import Any

_ATTRIBUTE = "_ih_lens_origin"


@dataclass(frozen=True)
class Origin:
    """Where a model came from and what loading did to it.

    Attributes:
        source: the kind of reference: "hub", "folder", "Hugging Face model", "snapshot".
        name: the repository ("EleutherAI/pythia-70m"), an absolute path, or a class name.
        revision: the branch, tag or commit as it was asked for.
        commit: 40 hexadecimal digits, where known.
        processed: whether LayerNorm was folded and the weights centred on loading.
        largest_difference: the largest difference between the converted model's logits and the original's, measured
            on loading; None where there was no other model to compare with.
        tokenizer: where the tokenizer came from; None without one.
        start_token: id of the tokenizer's own start token; None where it has none. TransformerLens gives such a
            tokenizer its end token as start token, which this tells apart.
    """

    source: str
    name: str
    revision: str | None = None
    commit: str | None = None
    processed: bool = False
    largest_difference: float | None = None
    tokenizer: str | None = None
    start_token: int | None = None


def record_origin(model: Any, origin: Origin) -> None:
    """Keep where a model came from on the model itself, so that copies of it have it too.

    Examples:
        >>> record_origin(model, Origin("folder", "/models/mine"))
    """
    vars(model)[_ATTRIBUTE] = origin


def origin_of(model: Any) -> Origin | None:
    """Where a model came from; None for one that was not loaded by this library.

    Examples:
        >>> origin_of(load_model("gpt2")).name
        'gpt2'
    """
    found = getattr(model, "__dict__", {}).get(_ATTRIBUTE)
    return found if isinstance(found, Origin) else None

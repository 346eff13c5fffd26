"""The tokenizer of a run, given back to the models that were trained on its tokens."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from ih_lens.errors import DamagedFileError
from ih_lens.models.files import entry, file_inside
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.reading import panics_as_errors, sha256_of, shown

TOKENIZER_FILE = "tokenizer.json"


def attach_tokenizer(model: HookedTransformer, record: dict[str, Any] | None, snapshot: Path) -> None:
    """Give the model the tokenizer of the run that the snapshot lies in.

    A snapshot that was moved out of its run has none; a record of None says that the run had none.

    Raises:
        DamagedFileError: if the run's tokenizer is not the one that the snapshot was trained with.
    """
    run = snapshot.resolve().parent.parent
    if record is None or snapshot.resolve().parent.name != "snapshots" or not (run / TOKENIZER_FILE).exists():
        return
    file = file_inside(run, TOKENIZER_FILE)
    if sha256_of(file) != entry(record, "sha256", str, snapshot):
        raise DamagedFileError(
            f"{file} is not the tokenizer that {snapshot} was trained with; restore it, or move the snapshot elsewhere"
        )
    bos_token = record.get("bos_token")
    if not isinstance(bos_token, str | None):
        raise DamagedFileError(
            f"{snapshot}: 'bos_token' is {shown(bos_token)}, expected a text; restore it from a copy"
        )
    try:
        with panics_as_errors():
            # TransformerLens would load it anew from `name_or_path` unless it prepends its start token already
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_file=str(file),
                name_or_path=str(file),
                add_bos_token=True,
                bos_token=bos_token,
                eos_token=bos_token,
                pad_token=bos_token,
            )
            model.set_tokenizer(tokenizer, default_padding_side="right")
    except Exception as error:  # tokenizers raises bare Exception
        raise DamagedFileError(f"{file} is no tokenizer ({shown(error)}); restore it from a copy") from error
    model.cfg.default_prepend_bos = bos_token is not None

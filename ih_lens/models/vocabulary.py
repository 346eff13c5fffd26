"""Whether the same ids are the same text to two models."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ih_lens.models.tokenizers import TOKENIZER_FILE
from ih_lens.reading import read_tokenizer


def vocabulary_hash(vocabulary: Mapping[str, int]) -> str:
    """A hash of which token has which id."""
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def vocabulary_of_run(folder: Path) -> str | None:
    """The hash for the tokenizer that a run was trained with; None for ids that are no text."""
    file = folder / TOKENIZER_FILE
    return vocabulary_hash(read_tokenizer(file, "restore it from a copy").get_vocab()) if file.is_file() else None

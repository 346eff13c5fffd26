"""Hugging Face datasets, streamed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ih_lens.data.pieces import Piece, pieces_of_text
from ih_lens.errors import InputError

_N_HASHED = 100


def is_dataset(source: object) -> bool:
    """Whether this comes from the `datasets` library, which is not imported to find out."""
    return type(source).__module__.split(".")[0] == "datasets"


@dataclass(frozen=True)
class DatasetSource:
    """The rows of a dataset, each a document.

    Args:
        dataset: a `datasets.Dataset` or `datasets.IterableDataset`.
        text_field: the column that holds the text.
        origin: name, configuration and split, where the dataset was asked for by name.
    """

    dataset: Any
    text_field: str = "text"
    origin: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if isinstance(self.dataset, dict):
            raise InputError(
                f"source: expected one split of a dataset, got all of them; choose from {list(self.dataset)}"
            )

    @classmethod
    def from_name(cls, name: str, text_field: str, *, split: str, config: str | None) -> "DatasetSource":
        """Open a dataset of the hub for streaming.

        Raises:
            InputError: if there is none of that name, configuration and split, or it cannot be reached.
        """
        import datasets  # takes a second to import

        try:
            dataset = datasets.load_dataset(name, config, split=split, streaming=True)
        except Exception as error:  # the library lets errors of a dozen kinds through
            raise InputError(
                f"{name!r} is no file or folder here, and as a Hugging Face dataset it could not be opened "
                f"(config={config!r}, split={split!r}): {error}"
            ) from error
        return cls(dataset, text_field, {"name": name, "config": config, "split": split})

    def pieces(self) -> Iterator[Piece]:
        """The text from the beginning.

        Raises:
            InputError: if a row has no text.
        """
        for number, row in enumerate(self.dataset):
            yield from pieces_of_text(self._text(number, row), f"row {number} of the dataset")

    def describe(self) -> dict[str, Any]:
        """The dataset's name where known, its number of rows where known, and a hash of its first 100 documents."""
        digest = hashlib.sha256()
        for number, row in enumerate(islice(self.dataset, _N_HASHED)):
            digest.update(hashlib.sha256(self._text(number, row).encode(errors="surrogatepass")).digest())
        return {
            "kind": "dataset",
            **self.origin,
            "n_rows": getattr(self.dataset, "num_rows", None),
            "text_field": self.text_field,
            "first_documents_sha256": digest.hexdigest(),
        }

    def _text(self, number: int, row: dict[str, Any]) -> str:
        """The text of one row."""
        text = row.get(self.text_field)
        if not isinstance(text, str):
            raise InputError(
                f"row {number} of the dataset: expected text in the column {self.text_field!r}, got "
                f"{type(text).__name__}; the columns are {', '.join(row)}: name one with text_field="
            )
        return text

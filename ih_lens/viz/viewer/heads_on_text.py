"""What heads do on one text: the result that the viewer draws."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from safetensors.torch import save
from torch import Tensor

from ih_lens.atomic import write_bytes
from ih_lens.errors import CapabilityError, DamagedFileError, InputError
from ih_lens.reading import parse_json, read_tensors_and_texts, shown
from ih_lens.results import HeadScores, Provenance, json_safe
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.viz.viewer.triangles import Triangle

_FORMAT, _VERSION = "ih_lens heads on text", "1"


@dataclass(frozen=True, eq=False, repr=False)
class HeadsOnText:
    """Attention and logit attribution of heads on one text, compressed; it needs no model.

    Entries are kept to within 1/255 of the largest magnitude in their row.

    Attributes:
        ids: of the tokens.
        texts: of the tokens, one each.
        heads: which heads, in the order of the other attributes.
        patterns: attention of each head.
        attributions: `logit_attribution` of each head; one destination and source fewer than there are tokens.
            None where it is not defined.
        not_attributed: why there are no attributions; "" where there are.
        thumbnails: small pictures of the patterns, in 255ths.
        scores: by measure, one number per head; NaN where it is not defined.
        attrs: provenance.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    heads: tuple[HeadIndex, ...]
    patterns: tuple[Triangle, ...]
    attributions: tuple[Triangle, ...] | None
    not_attributed: str
    thumbnails: UInt8[Tensor, "head row column"]
    scores: dict[str, tuple[float, ...]]
    attrs: Provenance

    def pattern(self, head: HeadSpelling) -> Float32[Tensor, "dest src"]:
        """Attention of one head, to within 1/255 of each row's largest entry.

        Examples:
            >>> view.data.pattern("L1H4").shape
            torch.Size([64, 64])
        """
        return self.patterns[self._place(head)].matrix()

    def attribution(self, head: HeadSpelling) -> Float32[Tensor, "dest src"]:
        """Logit attribution of one head, logits, to within 1/255 of each row's largest magnitude.

        Row i belongs to the logit of token i + 1, as in `logit_attribution`.

        Raises:
            CapabilityError: if it is not defined for the model.

        Examples:
            >>> view.data.attribution("L1H4")[-1].argmax()  # the source that raised the last token most
        """
        if self.attributions is None:
            raise CapabilityError(self.not_attributed)
        return self.attributions[self._place(head)].matrix()

    def with_scores(self, scores: HeadScores) -> "HeadsOnText":
        """The same with more scores to sort heads by, before those that are there.

        Raises:
            InputError: if a head is missing from the scores.
        """
        grids = {name: scores.to_tensor(name) for name in scores.names}
        for name, grid in grids.items():
            if grid.ndim != 2 or any(layer >= grid.shape[0] or head >= grid.shape[1] for layer, head in self.heads):
                raise InputError(
                    f"scores: {name!r} has the shape {tuple(grid.shape)}, which does not hold the heads "
                    f"{self.heads[0]} to {self.heads[-1]}; give those of the same model, of one snapshot"
                )
        added = {name: tuple(float(grid[head]) for head in self.heads) for name, grid in grids.items()}
        return replace(self, scores={**added, **self.scores})

    def save(self, path: str | Path) -> Path:
        """Write everything as one safetensors file, in one step.

        Examples:
            >>> view.data.save("heads.safetensors")
            PosixPath('heads.safetensors')
        """
        metadata = {"format": _FORMAT, "version": _VERSION, "record": json.dumps(self._record())}
        write_bytes(Path(path), save(self._tensors(), metadata))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "HeadsOnText":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: if there is no such file, or it holds something else.
        """
        tensors, header = read_tensors_and_texts(Path(path))
        try:
            if (header["format"], header["version"]) != (_FORMAT, _VERSION):
                raise ValueError("another format or version")
            record = parse_json(header["record"], path, finite=False)
            read = cls(
                ids=tuple(record["ids"]),
                texts=tuple(record["texts"]),
                heads=tuple(HeadIndex(*head) for head in record["heads"]),
                patterns=_triangles("patterns", tensors),
                attributions=None if record["not_attributed"] else _triangles("attributions", tensors),
                not_attributed=record["not_attributed"],
                thumbnails=tensors["thumbnails"],
                scores={name: tuple(map(float, values)) for name, values in record["scores"].items()},
                attrs=record["attrs"],
            )
            if not read._is_sound():
                raise ValueError("its parts do not fit together")
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, InputError) as error:
            raise DamagedFileError(
                f"{path} holds no heads on text of this version ({shown(error)}); write it again with save()"
            ) from error
        return read

    def _is_sound(self) -> bool:
        """Whether lengths and types of everything fit together."""
        n_heads, n_pos = len(self.heads), len(self.ids)
        of_heads = [self.patterns, self.thumbnails, *self.scores.values()]
        known = (
            all(type(token) is int and token >= 0 for token in self.ids)
            and all(isinstance(text, str) for text in self.texts)
            and isinstance(self.attrs, dict)
            and isinstance(self.not_attributed, str)
        )
        sizes = {len(triangle.extremes) for triangle in self.patterns}
        differences = {len(triangle.extremes) for triangle in self.attributions or ()}
        return (
            known
            and n_heads > 0
            and len(self.texts) == n_pos
            and all(len(part) == n_heads for part in of_heads)
            and sizes == {n_pos}
            and (self.attributions is None or (len(self.attributions) == n_heads and differences == {n_pos - 1}))
            and self.thumbnails.ndim == 3
            and self.thumbnails.dtype == torch.uint8
        )

    def _record(self) -> dict[str, Any]:
        # NaN as text, which float() reads, because NaN is no JSON
        scores = {name: [str(value) for value in values] for name, values in self.scores.items()}
        return {
            "ids": self.ids,
            "texts": self.texts,
            "heads": self.heads,
            "not_attributed": self.not_attributed,
            "scores": scores,
            "attrs": json_safe(self.attrs),
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {"thumbnails": self.thumbnails.contiguous()}
        for name, triangles in (("patterns", self.patterns), ("attributions", self.attributions or ())):
            if triangles:
                joined = bytearray(b"".join(triangle.packed for triangle in triangles))
                tensors[f"{name}.packed"] = torch.frombuffer(joined, dtype=torch.uint8)
                tensors[f"{name}.lengths"] = torch.tensor(
                    [len(triangle.packed) for triangle in triangles], device="cpu"
                )
                tensors[f"{name}.extremes"] = torch.stack([triangle.extremes for triangle in triangles])
        return tensors

    def _place(self, head: HeadSpelling) -> int:
        wanted = HeadIndex.parse(head)
        if wanted not in self.heads:
            raise InputError(f"head {wanted} is not among those that were measured: {_listed(self.heads)}")
        return self.heads.index(wanted)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.ids)} tokens, {len(self.heads)} heads: {_listed(self.heads)})"


def _triangles(name: str, tensors: dict[str, Tensor]) -> tuple[Triangle, ...]:
    packed, lengths = tensors[f"{name}.packed"], tensors[f"{name}.lengths"].tolist()
    extremes = tensors[f"{name}.extremes"]
    if packed.dtype != torch.uint8 or packed.ndim != 1 or extremes.dtype != torch.float32 or extremes.ndim != 2:
        raise ValueError(f"{name} are of another type or shape")
    stops = list(accumulate(lengths))
    if not lengths or min(lengths) < 0 or stops[-1] != len(packed):
        raise ValueError(f"{name} have another length than is written beside them")
    packed = packed.numpy().tobytes()
    places = zip(lengths, stops, extremes, strict=True)
    return tuple(Triangle(extremes, packed[stop - length : stop]) for length, stop, extremes in places)


def _listed(heads: Sequence[HeadIndex]) -> str:
    shown = [str(head) for head in heads[:6]]
    return ", ".join([*shown, "..."] if len(heads) > 6 else shown)

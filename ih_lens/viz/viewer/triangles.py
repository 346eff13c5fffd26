"""Causal matrices in a byte per entry: each row to within 1/255 of its largest magnitude, packed and compressed.

The byte c of an entry stands for c/128 of the row's extreme (its entry of the largest magnitude, with its sign) if
c <= 128, and else for (c - 256)/127.5 of it. So 0 and the extreme itself are exact.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from ih_lens.errors import DamagedFileError

_ROWS_AT_ONCE = 128
_LEVEL = 6
"""Of zlib."""
_THUMBNAIL = 64
"""Pixels of a thumbnail's side at most."""


@dataclass(frozen=True, eq=False)
class Triangle:
    """One head's causal matrix.

    Attributes:
        extremes: of each row the entry with the largest magnitude [dest].
        packed: the bytes of row 0, row 1, ..., each up to its diagonal, in zlib's format.
    """

    extremes: Float32[Tensor, "dest"]
    packed: bytes

    def matrix(self) -> Float32[Tensor, "dest src"]:
        """The entries, zero above the diagonal.

        Raises:
            DamagedFileError: if the bytes are not those of a matrix.
        """
        n_dest = len(self.extremes)
        n_entries = n_dest * (n_dest + 1) // 2
        unpacker = zlib.decompressobj()
        try:
            # no more than fits, whatever the bytes would become
            entries = unpacker.decompress(self.packed, n_entries + 1)
        except zlib.error as error:
            raise DamagedFileError(f"the compressed entries of a head are damaged ({error}); measure again") from error
        if len(entries) != n_entries or not unpacker.eof:
            raise DamagedFileError(f"a head has other than its {n_entries} entries, or half of them; measure again")
        codes = np.zeros((n_dest, n_dest), np.uint8)
        codes[np.tri(n_dest, dtype=bool)] = np.frombuffer(entries, np.uint8)
        return decode(torch.from_numpy(codes), self.extremes)


def encode(
    rows: Float[Tensor, "*head dest src"],
) -> tuple[UInt8[Tensor, "*head dest src"], Float32[Tensor, "*head dest"]]:
    """Bytes of all entries, and the extreme of each row.

    Examples:
        >>> encode(torch.tensor([[-2.0, 0.0, 1.0]]))
        (tensor([[128,   0, 192]], dtype=torch.uint8), tensor([-2.]))
    """
    extremes = rows.gather(-1, rows.abs().argmax(-1, keepdim=True)).to(torch.float32)
    # a row of nothing but zeros is one for every extreme
    ratio = rows / torch.where(extremes == 0, 1.0, extremes)
    codes = torch.where(ratio >= 0, (ratio * 128).round(), (ratio * 127.5).round().clamp(min=-127) % 256)
    return codes.to(torch.uint8), extremes[..., 0]


def decode(
    codes: UInt8[Tensor, "*head dest src"], extremes: Float32[Tensor, "*head dest"]
) -> Float32[Tensor, "*head dest src"]:
    """The entries that bytes stand for."""
    numbers = codes.to(torch.float32)
    return torch.where(codes <= 128, numbers / 128, (numbers - 256) / 127.5) * extremes[..., None]


class TrianglePacker:
    """Packs the matrices of one layer's heads from blocks of rows, in order."""

    def __init__(self, n_heads: int) -> None:
        self._streams = [zlib.compressobj(_LEVEL) for _ in range(n_heads)]
        self._packed = [bytearray() for _ in range(n_heads)]
        self._extremes: list[Float32[Tensor, "head dest"]] = []

    def add(self, rows: Float[Tensor, "head dest src"], first_dest: int) -> None:
        """The rows from `first_dest` on, with the sources up to the last of them at least."""
        for start in range(0, rows.shape[1], _ROWS_AT_ONCE):
            block = rows[:, start : start + _ROWS_AT_ONCE]
            n_dest, diagonal = block.shape[1], first_dest + start
            causal = torch.ones(n_dest, diagonal + n_dest, dtype=torch.bool, device="cpu").tril(diagonal)
            codes, extremes = encode(block[:, :, : diagonal + n_dest])
            self._extremes.append(extremes)
            for stream, packed, of_head in zip(self._streams, self._packed, codes[:, causal].numpy(), strict=True):
                packed += stream.compress(of_head)

    def finish(self) -> list[Triangle]:
        """One matrix per head."""
        extremes = torch.cat(self._extremes, dim=1)
        streams = zip(self._streams, self._packed, extremes, strict=True)
        return [Triangle(of_head, bytes(packed + stream.flush())) for stream, packed, of_head in streams]


class Thumbnails:
    """Small pictures of attention patterns: the strongest entry of each square of positions, in 255ths.

    Args:
        n_heads: of the layer.
        n_pos: positions.
    """

    def __init__(self, n_heads: int, n_pos: int) -> None:
        self._square = -(-n_pos // _THUMBNAIL)
        side = -(-n_pos // self._square)
        self._pixels = torch.zeros(n_heads, side, side, device="cpu")

    def add(self, rows: Float[Tensor, "head dest src"], first_dest: int) -> None:
        """The rows from `first_dest` on."""
        n_heads, n_dest, n_src = rows.shape
        side = self._pixels.shape[1]
        padded = torch.nn.functional.pad(rows.to(torch.float32), (0, side * self._square - n_src))
        narrow = padded.unflatten(-1, (side, self._square)).amax(-1)
        places = (torch.arange(first_dest, first_dest + n_dest, device="cpu") // self._square)[None, :, None]
        self._pixels.scatter_reduce_(1, places.expand(n_heads, n_dest, side), narrow, "amax")

    def finish(self) -> UInt8[Tensor, "head row column"]:
        """The pictures."""
        return (self._pixels * 255).round().clamp(0, 255).to(torch.uint8)

"""The pictures of docs/figures.md, made by the page's own lines: `python -m tests.figures_page FOLDER [NAME...]`.

Trainings lie in FOLDER and are not done twice. Every block that draws gives `docs/images/figures/NAME.png`, NAME being
the function that it calls; or only those named. (The page shows another picture for `plot_dissociation`.)
"""

import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ih_lens.viz import save_figure
from tests.docs_code import ROOT, Block, blocks

PAGE = "docs/figures.md"
IMAGES = ROOT / "docs" / "images" / "figures"
_DRAWS = re.compile(r"^figure = ih\.viz\.(\w+)\(", re.MULTILINE)
MAX_BYTES = 150_000


def drawn() -> Iterator[tuple[Block, str | None]]:
    """The page's blocks, each with the name of the function that it draws with, if it draws."""
    for block in blocks(PAGE, "python"):
        found = _DRAWS.search(block.text)
        yield block, found[1] if found else None


def main(folder: Path, names: Collection[str] = ()) -> None:
    """Run the page and save what it draws."""
    folder.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    page_text = (ROOT / PAGE).read_text(encoding="utf8")
    namespace: dict[str, Any] = {"__name__": "figures"}
    for block, name in drawn():
        print(f"{block.page}:{block.line} {name or ''}", flush=True)
        exec(compile("\n" * (block.line - 1) + block.text, str(ROOT / PAGE), "exec"), namespace)
        if name is not None and (name in names or (not names and f"/{name}.png" in page_text)):
            _save(namespace["figure"], IMAGES / f"{name}.png")


def _save(figure: Any, path: Path) -> None:
    """As sharp as fits."""
    for scale in (1.5, 1.25, 1.0):
        save_figure(figure, path, scale=scale)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

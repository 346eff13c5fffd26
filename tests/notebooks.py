"""Running the notebooks of demos/ and reading what their cells show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demos import execute
from demos.execute import FIGURE

__all__ = ["FIGURE"]
ALARMING = re.compile(r"[Ww]arning|Traceback|Error\b|[Dd]eprecat")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def run_cells(name: str, folder: Path, **settings: str) -> dict[str, Any]:
    """Run a notebook in a folder of its own, on its stand-in, with every warning shown; gives the code cells by id."""
    notebook = execute.run(name, folder, {**execute.settings_for(name, folder), **settings})
    return code_cells(notebook)


def code_cells(notebook: Any) -> dict[str, Any]:
    """The code cells by id."""
    return {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}


def printed(cell: Any) -> str:
    """Everything that a cell says as text."""
    texts = [output.get("text", "") for output in cell.outputs]
    texts += [str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return "\n".join(texts)


def data_of(cell: Any, kind: str) -> Any:
    """What a cell shows last in one format."""
    return next(output["data"][kind] for output in reversed(cell.outputs) if kind in output.get("data", {}))


def streams(cells: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for ident, cell in cells.items():
        for output in cell.outputs:
            if output.output_type == "stream":
                yield ident, output.name, output.text


def check_quiet(cells: dict[str, Any]) -> None:
    for ident, stream, text in streams(cells):
        assert stream == "stdout", f"{ident} wrote to {stream}: {text}"
        assert not ALARMING.search(text), f"{ident}: {text}"


def check_as_committed(cells: dict[str, Any], committed: dict[str, Any], *, within: float, but: str = "") -> None:
    """What the cells print is what is committed, up to the rounding of numbers on another machine.

    Args:
        cells: as they were run now.
        committed: as they are committed.
        within: by what share of a number above 1, and by what below.
        but: a cell that may differ, because it measures on the sources of the Python that runs it.
    """
    ours, theirs = (
        {ident: "".join(text for found, _, text in streams(of) if found == ident) for ident in of}
        for of in (cells, committed)
    )
    for ident, text in ours.items():
        if ident == but:
            continue
        assert _NUMBER.sub("#", text) == _NUMBER.sub("#", theirs[ident]), ident
        for new, old in zip(_NUMBER.findall(text), _NUMBER.findall(theirs[ident]), strict=True):
            assert abs(float(new) - float(old)) <= within * max(1.0, abs(float(old))), f"{ident}: {new}, was {old}"

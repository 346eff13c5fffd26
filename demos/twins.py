"""The text twins of the notebooks: `NAME.py` in jupytext's percent format, from which `NAME.ipynb` is made.

A cell's title, such as `# %% load`, is its id in the notebook, so that ids stay when cells are added.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jupytext
import nbformat

DEMOS = Path(__file__).parent
NAMES = ("gpt2_heads", "pythia_training", "train_your_own", "knock_out_heads", "attribution_and_viewer", "clamping")
"""In the order in which to read them."""


def read_twin(name: str) -> Any:
    """The notebook of a twin, without outputs."""
    notebook: Any = nbformat.v4.new_notebook()
    for cell in jupytext.read(DEMOS / f"{name}.py", fmt="py:percent").cells:
        make = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        notebook.cells.append(make(cell.source, id=cell.metadata["title"]))
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def read_notebook(name: str) -> Any:
    """The notebook as it is committed, with outputs."""
    return nbformat.read(DEMOS / f"{name}.ipynb", as_version=4)


def sources_hash(notebook: Any) -> str:
    """Of all that was run: equal if the code cells are. Kept with the outputs, it tells when they are out of date."""
    sources = [(cell["id"], cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()

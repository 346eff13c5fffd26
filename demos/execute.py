"""Make the notebooks from their twins and run them: `make notebooks`, or `python -m demos.execute [NAME ...]`.

They run on the stand-ins, because that works without a network; a notebook says in its first output on what it ran.
What is committed depends on the code alone: no times, no paths, no versions. Figures keep their data for Jupyter
and get a picture for GitHub, which runs no scripts; for an interactive page there is the picture alone.
"""

import base64
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient

from demos.screenshots import picture_of_html
from demos.stand_ins import save_gpt2, save_pythia
from demos.twins import DEMOS, NAMES, read_twin, sources_hash
from ih_lens.atomic import write_bytes

COVERS = {
    "gpt2_heads": "map",
    "pythia_training": "prefix-figure",
    "train_your_own": "prefix",
    "knock_out_heads": "groups-figure",
    "attribution_and_viewer": "translation-view",
    "clamping": "train",
}
"""The cell whose picture stands at the beginning of each notebook, in images/."""
FIGURE = "application/vnd.plotly.v1+json"
_PAGE = re.compile("<(script|iframe|form)")
_LOCKED = {"literal-view": 39, "translation-view": 67, "pattern-view": 29}
"""In the pictures of views: the token that is clicked on, by cell."""
_SECONDS_PER_CELL = 1200
_WITHOUT_BARS = "import rich.console; rich.console._is_jupyter = lambda: False"
"""Run in the kernel before a notebook: bars are widgets, which leave nothing worth keeping, and may stall nbclient."""


def settings_for(name: str, folder: Path) -> dict[str, str]:
    """What points a notebook to its stand-in, which is made in the folder if need be."""
    if name == "pythia_training":
        return save_pythia(folder / "pythia_stand_in")
    if name in ("gpt2_heads", "attribution_and_viewer"):
        if not (folder / "gpt2_stand_in").exists():
            save_gpt2(folder / "gpt2_stand_in")
        return {"IH_LENS_DEMO_MODEL": "gpt2_stand_in"}
    return {}


def run(name: str, folder: Path, settings: Mapping[str, str]) -> Any:
    """Run a twin in a folder, with every warning shown.

    Args:
        name: of the notebook.
        folder: where it runs, and writes what it writes.
        settings: of the environment, beside the usual ones.

    Returns:
        The notebook with its outputs, without the folder's name.

    Raises:
        CellExecutionError: if a cell fails.
    """
    notebook = read_twin(name)
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "without_bars.py").write_text(_WITHOUT_BARS, encoding="utf8")
    environment = {
        "PYTHONPATH": str(DEMOS.parent),
        "PYTHONWARNINGS": "default",
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "HF_HUB_OFFLINE": "1",
        "TTY_COMPATIBLE": "0",
        **settings,
    }
    client = NotebookClient(
        notebook,
        timeout=_SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    with patch.dict(os.environ, environment):
        client.execute()
    return nbformat.from_dict(json.loads(json.dumps(notebook).replace(f"{folder}/", "")))


def make_readable(notebook: Any, name: str) -> Any:
    """Leave what can be committed and seen anywhere."""
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            for output in cell.outputs:
                if "data" in output:
                    _make_output_readable(output, name, cell["id"])
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["ih_lens"] = {"outputs_of": sources_hash(notebook)}
    return notebook


def _make_output_readable(output: Any, name: str, cell: str) -> None:
    data, picture = output["data"], None
    if FIGURE in data:
        data[FIGURE].get("config", {}).pop("plotlyServerURL", None)
        picture = go.Figure(data[FIGURE]).to_image(format="png")
    elif _PAGE.search(data.get("text/html", "")):
        picture = picture_of_html(data.pop("text/html"), locked=_LOCKED.get(cell))
    if picture is not None:
        data["image/png"] = base64.b64encode(picture).decode()
        data.setdefault("text/plain", f"{name}, {cell}")
        if COVERS[name] == cell:
            write_bytes(DEMOS / "images" / f"{name}.png", picture)


def main(names: Sequence[str]) -> int:
    """Make and run the named notebooks, or all."""
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for name in names or NAMES:
            notebook = make_readable(run(name, Path(folder), settings_for(name, Path(folder))), name)
            nbformat.validate(notebook)
            place = DEMOS / f"{name}.ipynb"
            place.write_text(nbformat.writes(notebook) + "\n", encoding="utf8")
            print(f"{place.name}: {place.stat().st_size / 1000:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

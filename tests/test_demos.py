"""The notebooks run unchanged against small stand-ins of their models, and are committed with what they then show."""

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from demos.execute import COVERS, main
from demos.twins import DEMOS, NAMES, read_notebook, read_twin, sources_hash
from tests.notebooks import FIGURE, check_as_committed, check_quiet, code_cells, data_of, printed, run_cells

_MOST_BYTES = 2_000_000
_PNG = b"\x89PNG"


def test_every_notebook_has_a_twin() -> None:
    assert sorted(path.stem for path in DEMOS.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_those_of_their_twins_with_outputs(name: str) -> None:
    notebook, twin = read_notebook(name), read_twin(name)
    assert [(cell["id"], cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell["id"], cell.cell_type, cell.source) for cell in twin.cells
    ]
    assert notebook.metadata["ih_lens"]["outputs_of"] == sources_hash(twin), "run: make notebooks"
    assert [cell.execution_count for cell in code_cells(notebook).values()] == [
        place + 1 for place in range(len(code_cells(notebook)))
    ]
    assert any(cell.outputs for cell in code_cells(notebook).values())
    check_quiet(code_cells(notebook))


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_small_and_say_nothing_of_the_machine(name: str) -> None:
    content = (DEMOS / f"{name}.ipynb").read_text(encoding="utf8")
    assert len(content) < _MOST_BYTES
    notebook = read_notebook(name)
    nbformat.validate(notebook)
    idents = [cell["id"] for cell in notebook.cells]
    assert len(set(idents)) == len(idents)
    assert all(re.fullmatch(r"[a-z-]+", ident) for ident in idents), "ids are names, so that they stay"
    assert set(notebook.metadata) == {"kernelspec", "language_info", "ih_lens"}
    assert not re.search(r"/(tmp|home|root|work|Users)/|site-packages|<script|<iframe|<form", content)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_open_with_what_one_will_see(name: str) -> None:
    opening = read_notebook(name).cells[0].source
    assert "\nWhat you will see" in opening
    assert re.search(rf"!\[.+\]\(images/{name}\.png\)", opening)
    assert (DEMOS / "images" / f"{name}.png").read_bytes().startswith(_PNG)
    assert (DEMOS / "images" / f"{name}.png").stat().st_size < 300_000
    assert COVERS[name] in code_cells(read_notebook(name))


@pytest.mark.parametrize("name", NAMES)
def test_figures_can_be_seen_without_scripts(name: str) -> None:
    outputs = [output.get("data", {}) for cell in code_cells(read_notebook(name)).values() for output in cell.outputs]
    figures = [data for data in outputs if FIGURE in data]
    assert figures
    for data in figures:
        assert base64.b64decode(data["image/png"]).startswith(_PNG)


def test_there_is_a_page_about_every_notebook() -> None:
    for page in (DEMOS / "README.md", DEMOS.parent / "README.md"):
        assert all(f"{name}.ipynb" in page.read_text(encoding="utf8") for name in NAMES), page


def test_only_notebooks_that_exist_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["heads_of_gpt5"]) == 2
    assert capsys.readouterr().err.startswith("no notebook heads_of_gpt5; there are gpt2_heads, ")


def numbers(values: Any) -> np.ndarray:
    """Plotly's packed arrays."""
    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])


def check_figures(cells: dict[str, Any], *names: str) -> None:
    for name in names:
        assert data_of(cells[name], FIGURE)["data"], name


def test_heads_of_gpt2(tmp_path: Path) -> None:
    cells = run_cells("gpt2_heads", tmp_path)
    check_quiet(cells)
    check_as_committed(cells, code_cells(read_notebook("gpt2_heads")), within=0.03, but="text")
    assert "gpt2_stand_in: 12 layers of 12 heads, a context of 256 tokens" in printed(cells["load"])
    assert "no published model but a small stand-in" in printed(cells["load"])
    assert "frozen patterns     yes" in printed(cells["capabilities"])
    assert "torch.Size([10, 101])" in printed(cells["tokens"])
    (curve,) = data_of(cells["losses"], FIGURE)["data"]
    losses = numbers(curve["y"])
    assert losses[26:].mean() < losses[:25].mean() - 1  # the copies are predicted
    assert re.search(r"induction +4 +L5H5 L6H9 L7H10 L8H1\n", printed(cells["types"]))
    assert "5 of 11 published heads found" in printed(cells["atlas"])
    assert "induction: found L5H5, L6H9, L7H10; otherwise" in printed(cells["atlas"])
    assert "previous_token: found L2H2, L4H11" in printed(cells["atlas"])
    assert "L5H5" in data_of(cells["patterns"], "text/html")
    assert "loss at 250 minus loss at 25" in printed(cells["text"])
    check_figures(cells, "map", "copying-map", "text-curve", "ablation-losses", "attribution", "attribution-sources")
    repeated, _ = (trace for trace in data_of(cells["ablation-losses"], FIGURE)["data"])
    assert numbers(repeated["x"])[0] > 1  # without the induction heads the copies are not predicted
    title = data_of(cells["attribution-sources"], FIGURE)["layout"]["title"]["text"]
    assert re.match("(L5H5|L6H9|L7H10): what it adds", title)


def test_training_of_pythia(tmp_path: Path) -> None:
    cells = run_cells("pythia_training", tmp_path)
    check_quiet(cells)
    check_as_committed(cells, code_cells(read_notebook("pythia_training")), within=0.03, but="table")
    shown = printed(cells["load"])
    assert "EleutherAI/pythia-70m: 13 snapshots, the last at step 143,000 of 143,000" in shown
    assert "no published model but a small stand-in" in shown
    assert str(143000 * 2**21) in shown
    assert "torch.Size([32, 128])" in printed(cells["text"])
    assert "1 induction head" in printed(cells["table"])
    assert "PhaseChange(found=" in printed(cells["phase"])
    check_figures(cells, "score-figure", "prefix-figure", "loss-figure")
    (row,) = printed(cells["when"]).strip().splitlines()[1:]
    assert row.split()[1:4] == ["L1H2", "1000", str(1000 * 2**21)]
    assert "previous_token    1" in printed(cells["types"])
    assert (tmp_path / "pythia_training.html").read_text(encoding="utf8").startswith("<!doctype html>")


def test_train_your_own(tmp_path: Path) -> None:
    cells = run_cells("train_your_own", tmp_path, IH_LENS_DEMO_STEPS="180")
    check_quiet(cells)
    first, *_ = printed(cells["task"]).splitlines()
    assert len(first.split()) == 48
    assert first.split()[0].islower()  # nothing comes before it
    assert sum(letter.isupper() for letter in first.split()) > 15
    said = printed(cells["table"])
    assert "1 layer (seed 0): no induction head" in said
    assert re.search(r"2 layers \(seed 0\): [1-4] induction head", said)
    assert re.search(r"1 layer, smeared keys \(seed 0\): phase change", said)
    check_figures(cells, "loss", "in-context", "prefix", "forming", "context", "context-curve")
    (pattern, *_), layout = (data_of(cells["forming"], FIGURE)[part] for part in ("data", "layout"))
    assert len(layout["annotations"]) >= 2
    assert pattern["type"] == "heatmap"


def test_knock_out_heads(tmp_path: Path) -> None:
    cells = run_cells("knock_out_heads", tmp_path, IH_LENS_DEMO_STEPS="300")
    check_quiet(cells)
    induction = re.search(r"the highest score first: (.+)", printed(cells["heads"]))
    assert induction is not None
    heads = induction[1].split()
    assert len(heads) >= 2
    assert all(head.startswith("L1") for head in heads)
    kept = re.findall(r"without (.+): .+ nats, (-?\d+) % of it left", printed(cells["score"]))
    assert [group.split() for group, _ in kept] == [heads[: n + 1] for n in range(len(heads))]
    assert float(kept[0][1]) > 60  # one of them can be spared
    assert float(kept[-1][1]) < 30  # all of them cannot
    assert "the phase change:" in printed(cells["before"])
    check_figures(cells, "kinds-figure", "groups-figure", "context", "score-map", "before")
    assert re.search(r"natural +\d\.\d+ +1\.00", printed(cells["ideal"]))
    assert re.search(r"ablated +\d\.\d+ +0\.00", printed(cells["ideal"]))
    (recovered,) = re.findall(r"\[A\]\[B\]\.\.\.\[A\] +\d\.\d+ +(\d\.\d+)", printed(cells["ideal"]))
    assert float(recovered) > 0.6  # the rule says most of what they do
    assert "full, zero" in data_of(cells["kinds"], "text/html")


def test_attribution_and_viewer(tmp_path: Path) -> None:
    cells = run_cells("attribution_and_viewer", tmp_path)
    check_quiet(cells)
    check_as_committed(cells, code_cells(read_notebook("attribution_and_viewer")), within=0.03)
    assert "·imba" in printed(cells["literal-table"]) or "imba" in printed(cells["literal-table"])
    translated = printed(cells["translation-table"])
    assert re.search(r"·vieux +·roi +·king", translated)
    assert re.search(r"·alte +·König +·king", translated)
    assert "L8H1 at the colon: 1.00 of its attention on numbers of the same kind" in printed(cells["pattern-control"])
    for name, head in (("literal", "L5H5"), ("translation", "L7H10"), ("pattern", "L8H1")):
        check_figures(cells, name)
        view = data_of(cells[f"{name}-view"], "text/html")
        assert view.startswith("<iframe")
        assert head in view
    same = {line.split()[0]: line.split()[1:] for line in printed(cells["same"]).strip().splitlines()[1:]}
    literal, translation, pattern = (float(same[head][place]) for place, head in enumerate(("L5H5", "L7H10", "L8H1")))
    assert min(literal, translation, pattern) > 2
    assert float(same["L5H5"][1]) < 0.5  # a head that copies literally finds no translations


def test_clamping(tmp_path: Path) -> None:
    cells = run_cells("clamping", tmp_path, IH_LENS_DEMO_STEPS="28", IH_LENS_DEMO_SEEDS="0")
    check_quiet(cells)
    assert "free                 no clamps" in printed(cells["conditions"])
    assert "B: match             InductionTarget(heads=['L1H0'])" in printed(cells["conditions"])
    check_figures(cells, "train", "times", "perfected", "race")
    table = data_of(cells["released"], "text/html")
    assert all(name in table for name in ("clamped", "released", "A, then released", "A forbidden"))
    assert "not through patterns" in data_of(cells["wiring"], "text/html")


def test_stand_ins_are_made_as_their_page_says(tmp_path: Path) -> None:
    call = [sys.executable, str(DEMOS / "stand_ins.py"), "gpt2", "model"]
    environment = {"PYTHONPATH": str(DEMOS.parent), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    made = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (made.returncode, made.stderr) == (0, "")
    assert f"export IH_LENS_DEMO_MODEL={tmp_path / 'model'}\n" in made.stdout
    assert (tmp_path / "model" / "STAND_IN.txt").exists()
    again = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr) == (2, "model exists; name a new folder\n")

"""The page carries everything it needs, escapes what came from outside, and marks what is missing."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
import xarray as xr
from plotly.offline import get_plotlyjs

from ih_lens.report.rows import PAPER_ROWS
from ih_lens.report.table import ModelAnalysisTable

HOSTILE = '<img src=x onerror="alert(1)">&amp;\'</script>'


@pytest.fixture(scope="module")
def page(table: ModelAnalysisTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    return table.to_html(tmp_path_factory.mktemp("page") / "deep" / "table.html", title="My <table>").read_text()


def own_part(page: str) -> str:
    """The page without plotly.js."""
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    own = own_part(page)
    assert not re.findall(r"\bsrc(?:set)?\s*=|@import|\burl\(", own)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', own))
    assert "http:" not in own
    assert "https:" not in own
    assert "default-src 'none'" in own


def test_size_is_moderate(page: str) -> None:
    assert len(own_part(page)) < 600_000


def test_every_row_stands_once_per_series_in_order(page: str) -> None:
    shown = re.findall(r'data-row="(\w+)"', page)
    assert shown == [row.name for row in PAPER_ROWS] * 2


def test_definitions_are_beside_their_rows_with_the_numbers_used(page: str) -> None:
    text = unescape(own_part(page))
    assert text.count("<summary>Definition</summary>") == 2 * len(PAPER_ROWS)
    assert "Mean loss at context index 23 minus mean loss at context index 2, in nats" in text
    assert "{" not in "".join(re.findall(r'<div class="definition">(.*?)</div>', text))


def test_figures_are_json_with_data(page: str) -> None:
    figures = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert len(figures) == 2 * len(PAPER_ROWS)
    assert all(figure["data"] for figure in figures)
    assert not any(figure["layout"].get("title", {}).get("text") for figure in figures)


def test_missing_rows_are_marked_with_the_reason(page: str) -> None:
    assert "1L: not measured, because it needs earlier layers to compose with." in page


def test_provenance_is_there(page: str, table: ModelAnalysisTable) -> None:
    for value in (table.record["examples"]["fingerprint"], "scoring.late", "settings.ablation", "versions.torch"):
        assert value in page


def hostile(table: ModelAnalysisTable) -> ModelAnalysisTable:
    """The same numbers under names that try to be markup."""

    def changed(dataset: xr.Dataset) -> xr.Dataset:
        model = {**json.loads(dataset.attrs["model"]), "name": HOSTILE}
        reasons = {"loss": f"because {HOSTILE}"}
        return dataset.drop_vars("loss").assign_attrs(model=json.dumps(model), not_measured=json.dumps(reasons))

    record = {**table.record, "series": {HOSTILE: [HOSTILE]}, "damaged": [HOSTILE]}
    return ModelAnalysisTable({HOSTILE: changed(table.dataset("2L"))}, record)


def test_names_are_text_and_never_markup(table: ModelAnalysisTable, tmp_path: Path) -> None:
    written = hostile(table).to_html(tmp_path / "page.html", title=HOSTILE).read_text()
    own = own_part(written)
    assert "<img" not in own
    assert own.count("</script>") == len(PAPER_ROWS) + 2
    assert unescape(re.findall(r"<h1>(.*?)</h1>", own)[0]) == HOSTILE
    assert HOSTILE in unescape(re.findall(r'<p class="missing">(.*?)</p>', own)[0])
    assert "<img" not in hostile(table)._repr_html_()


def test_the_notebook_summary_has_a_line_per_model(table: ModelAnalysisTable) -> None:
    summary = table._repr_html_()
    assert summary.count("<tr>") == 1 + len(table.models)
    assert "1 layer, smeared keys, 2 heads per layer, d_model 16, seed 0" in summary

"""What the viewer shows is what was measured, compressed; nothing in a text can do anything on the page."""

import html
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ih_lens as ih
from ih_lens.viz.viewer import view as view_module
from ih_lens.viz.viewer.triangles import Thumbnails, TrianglePacker, decode, encode
from tests.viz.text_heads import HOSTILE, TEXTS, packed, random_heads


def largest_error(found: Tensor, wanted: Tensor) -> float:
    """In units of 1/255 of each row's largest magnitude."""
    wanted = wanted.double()
    most = wanted.abs().amax(-1, keepdim=True)
    return float(((found - wanted).abs() / most.where(most > 0, 1.0)).max()) * 255


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6])
def test_every_entry_is_within_its_share_of_the_row_maximum(scale: float) -> None:
    rows = scale * torch.randn(40, 300, 300, generator=torch.Generator().manual_seed(1)).tril()
    rows[0, 5], rows[1, 7, :8] = 0, torch.tensor([1.0, -1.0, 0.5, -0.5, 0.25, 0.0, 127.5 / 128, -127.4 / 127.5]) * scale
    codes, extremes = encode(rows)
    assert largest_error(decode(codes, extremes), rows) <= 1 + 1e-5
    assert codes.dtype == torch.uint8


def test_zeros_and_extremes_are_exact() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [-3.0, 0.0, 1.0], [0.25, 0.125, 0.0]])
    found = decode(*encode(rows))
    assert torch.equal(found[0], rows[0])
    assert found[1, 0] == -3.0
    assert found[1, 1] == 0.0
    assert torch.equal(found[2], rows[2])


@pytest.mark.parametrize("cuts", [[50], [20, 50], [1, 2, 49, 50]])
def test_blocks_of_rows_give_the_same_matrix(cuts: list[int]) -> None:
    matrices = torch.randn(3, 50, 50, dtype=torch.float64).tril()
    packer, start = TrianglePacker(3), 0
    for stop in cuts:
        packer.add(matrices[:, start:stop, : stop + (stop < 50)], start)  # one source more than needed is fine
        start = stop
    for found, whole, matrix in zip(packer.finish(), packed(matrices), matrices, strict=True):
        assert torch.equal(found.matrix(), whole.matrix())
        assert largest_error(found.matrix(), matrix) <= 1 + 1e-5


@pytest.mark.parametrize("n_pos", [2, 64, 65, 150, 300])
def test_thumbnails_show_the_strongest_entry_of_each_square(n_pos: int) -> None:
    patterns = torch.randn(2, n_pos, n_pos, generator=torch.Generator().manual_seed(0)).softmax(-1).tril()
    pictures = Thumbnails(2, n_pos)
    for start in range(0, n_pos, 37):
        stop = min(start + 37, n_pos)
        pictures.add(patterns[:, start:stop, :stop], start)
    found, square = pictures.finish(), -(-n_pos // 64)
    assert found.shape[1] <= 64
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            part = patterns[:, row * square : (row + 1) * square, column * square : (column + 1) * square]
            assert (found[:, row, column].float() / 255 - part.amax(dim=(1, 2))).abs().max() <= 0.5 / 255 + 1e-6


def test_heads_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    heads, patterns, attributions = random_heads()
    again = ih.HeadsOnText.load(heads.save(tmp_path / "heads.safetensors"))
    assert (again.ids, again.texts, again.heads) == (heads.ids, heads.texts, heads.heads)
    assert again.attrs == heads.attrs
    assert again.scores["prefix_matching"] == heads.scores["prefix_matching"]
    assert str(again.scores["copying"]) == str(heads.scores["copying"])  # with its NaN
    assert torch.equal(again.thumbnails, heads.thumbnails)
    for place, head in enumerate(heads.heads):
        assert largest_error(again.pattern(head), patterns[place]) <= 1 + 1e-5
        assert largest_error(again.attribution(str(head)), attributions[place]) <= 1 + 1e-5
    assert ih.viz.induction_view(again).to_html() == ih.viz.induction_view(heads).to_html()


def test_a_result_without_attributions_says_why(tmp_path: Path) -> None:
    heads, _, _ = random_heads(attributed=False)
    again = ih.HeadsOnText.load(heads.save(tmp_path / "heads.safetensors"))
    with pytest.raises(ih.CapabilityError, match="these logits are <no> sums"):
        again.attribution("L1H0")
    assert "these logits are \\u003cno> sums" in ih.viz.induction_view(again).to_html()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "heads.safetensors"
    if damage == "other":
        from safetensors.torch import save_file

        save_file({"thumbnails": torch.zeros(3)}, path)
    elif damage != "missing":
        content = random_heads()[0].save(path).read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(ih.DamagedFileError, match=r"holds no heads on text|is no safetensors file|does not exist"):
        ih.HeadsOnText.load(path)


def test_damage_inside_a_file_is_noticed(tmp_path: Path) -> None:
    path = random_heads()[0].save(tmp_path / "heads.safetensors")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x78\x9c") + 20] ^= 0xFF  # where zlib's format begins
    path.write_bytes(content)
    damaged = ih.HeadsOnText.load(path)
    with pytest.raises(ih.DamagedFileError, match="damaged"):
        [(damaged.pattern(head), damaged.attribution(head)) for head in damaged.heads]


def test_heads_that_were_not_measured_are_refused() -> None:
    with pytest.raises(ih.InputError, match="L7H7 is not among those that were measured: L1H0, L1H1, L1H2"):
        random_heads()[0].pattern("L7H7")


def test_more_scores_come_first_and_must_fit() -> None:
    heads, _, _ = random_heads()
    grid = torch.arange(8.0).reshape(2, 4)
    more = heads.with_scores(ih.HeadScores.from_tensors({"previous_token": grid}))
    assert list(more.scores) == ["previous_token", "prefix_matching", "copying"]
    assert more.scores["previous_token"] == (4.0, 5.0, 6.0)
    with pytest.raises(ih.InputError, match="does not hold the heads"):
        heads.with_scores(ih.HeadScores.from_tensors({"previous_token": grid[:1]}))


def test_the_page_holds_its_texts_as_data_only() -> None:
    page = ih.viz.induction_view(random_heads([*HOSTILE, "a"])[0], title=HOSTILE[0]).to_html()
    assert "<script>alert" not in page
    assert "<img" not in page
    record = re.search(r'<script type="application/json" id="record">(.*?)</script>', page, re.DOTALL)
    assert record is not None
    assert json.loads(record[1])["tokens"][:5] == [text.replace(" ", "·") for text in HOSTILE]


def test_the_page_names_no_other_address() -> None:
    page = ih.viz.induction_view(random_heads()[0]).to_html()
    assert not re.search(r"https?:|//[a-z]+\.[a-z]+/|@import|src=|href=|fetch\(|XMLHttpRequest|WebSocket", page)
    assert "default-src 'none'" in page


def test_white_space_is_made_visible_and_lines_break() -> None:
    page = ih.viz.induction_view(random_heads()[0]).to_html()
    record = json.loads(re.findall(r'id="record">(.*?)</script>', page, re.DOTALL)[0])
    shown = dict(zip(TEXTS, record["tokens"], strict=True))
    assert shown[" the"] == "·the"
    assert shown["\n\n"] == "↵\n↵\n"
    assert shown["\tsat"] == "→sat"
    assert shown[""] == "∅"
    assert not record["only_ids"]


def test_the_notebook_shows_the_page_in_a_frame() -> None:
    view = ih.viz.induction_view(random_heads()[0], height=300)
    shown = view._repr_html_()
    page = re.fullmatch(
        r'<iframe srcdoc="([^"]*)" title="made up" style="[^"]*height:300px[^"]*" allowfullscreen></iframe>', shown
    )
    assert page is not None
    assert html.unescape(page[1]) == view.to_html()


def test_a_page_too_large_for_a_notebook_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "_NOTEBOOK_BYTES", 10_000)
    shown = ih.viz.induction_view(random_heads()[0])._repr_html_()
    assert "<iframe" not in shown
    assert ".save(" in shown


def test_the_size_is_told(tmp_path: Path) -> None:
    view = ih.viz.induction_view(random_heads([str(place) for place in range(300)], 8)[0])
    written = view.save(tmp_path / "view.html").stat().st_size
    assert view.n_bytes == pytest.approx(written, rel=0.1)
    assert repr(view) == f"InductionView('made up': 300 tokens, 8 heads, page of {view.n_bytes / 1e6:.1f} MB)"

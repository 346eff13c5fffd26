from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from ih_lens import results
from ih_lens.errors import DamagedFileError, FingerprintError, InputError
from ih_lens.results import HeadScores, TokenLosses


def _scores() -> HeadScores:
    grid = torch.tensor([[0.25, float("nan")], [0.75, 0.5]])
    return HeadScores.from_tensors({"prefix_matching": grid}, provenance={"seed": 0, "heads": ["L0H0"], "text": None})


def _losses(fingerprint: str = "a") -> TokenLosses:
    views = {"random_token": torch.rand(3), "by_context_index": torch.rand(4), "at_indices": torch.rand(3, 2)}
    return TokenLosses.from_tensors(
        views,
        random_index=[1, 2, 3],
        by_context_index=[1, 2, 3, 4],
        at_indices=[1, 4],
        provenance={"fingerprint": fingerprint},
    )


def test_top_heads_leave_out_what_is_not_defined() -> None:
    scores = _scores()
    assert scores.top("prefix_matching", 9) == [((1, 0), 0.75), ((1, 1), 0.5), ((0, 0), 0.25)]
    assert scores.head("L1H1") == {"prefix_matching": 0.5}
    assert scores.to_tensor("prefix_matching").shape == (2, 2)
    assert list(scores.to_dataframe().columns) == ["layer", "head", "prefix_matching"]
    assert scores.attrs == {"seed": 0, "heads": '["L0H0"]'}


def test_unknown_measures_and_heads_are_refused() -> None:
    with pytest.raises(InputError, match=r"no measure 'copying'.*prefix_matching"):
        _scores()["copying"]
    with pytest.raises(InputError, match="does not exist"):
        _scores().head("L2H0")


def test_stacked_scores_must_be_chosen_from() -> None:
    stacked = results.stack_snapshots([_scores(), _scores()], [0, 50], [0, 5000])
    assert stacked["prefix_matching"].dims == ("snapshot", "layer", "head")
    with pytest.raises(InputError, match="stacked over snapshot"):
        stacked.top("prefix_matching", 1)
    first = HeadScores(stacked.dataset.isel(snapshot=0))
    assert first.top("prefix_matching", 1) == [((1, 0), 0.75)]


def test_losses_of_different_examples_do_not_combine() -> None:
    with pytest.raises(FingerprintError, match="different examples"):
        results.stack_snapshots([_losses("a"), _losses("b")], [0, 1], [0, 10])
    stacked = results.stack_snapshots([_losses(), _losses()], [0, 1], [0, 10])
    assert stacked.random_token.shape == (2, 3)
    np.testing.assert_array_equal(stacked.dataset["tokens_elapsed"], [0, 10])
    assert stacked.fingerprint == "a"


def test_views_that_were_not_kept_say_so() -> None:
    with pytest.raises(InputError, match='keep="all"'):
        _ = _losses().full


def test_stacking_needs_one_step_per_result() -> None:
    with pytest.raises(InputError, match="1 results, 2 steps"):
        results.stack_snapshots([_losses()], [0, 1], [0])


def test_results_show_themselves() -> None:
    assert "prefix_matching" in repr(_scores())
    assert "random_token" in repr(_losses())
    assert "<div" in _losses()._repr_html_()
    assert "<div" in _scores()._repr_html_()


def test_scores_are_saved_with_all_that_they_say(tmp_path: Path) -> None:
    scores = results.stack_snapshots([_scores(), _scores()], [0, 50], [0, 5000])
    for kept in (_scores(), scores):
        kept.dataset["prefix_matching"].attrs |= {"definition": "what it is", "range": "[0, 1]"}
        path = kept.save(tmp_path / "new" / "scores.json")
        loaded = HeadScores.load(path)
        xr.testing.assert_identical(loaded.dataset, kept.dataset)
        assert loaded["prefix_matching"].dtype == kept["prefix_matching"].dtype == np.float32
        assert "NaN" not in path.read_text(encoding="utf8")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "ih_lens head scores", "version": 2, "dataset": {}}', '{"format": 1'],
)
def test_other_files_are_no_scores(tmp_path: Path, content: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(content, encoding="utf8")
    with pytest.raises(DamagedFileError, match=r"holds no head scores|is truncated or altered"):
        HeadScores.load(file)
    with pytest.raises(DamagedFileError, match="does not exist"):
        HeadScores.load(tmp_path / "missing.json")


def test_truncated_scores_are_found(tmp_path: Path) -> None:
    path = _scores().save(tmp_path / "scores.json")
    whole = path.read_text(encoding="utf8")
    for part in (0.2, 0.5, 0.9):
        path.write_text(whole[: int(part * len(whole))], encoding="utf8")
        with pytest.raises(DamagedFileError, match="restore it from a copy"):
            HeadScores.load(path)

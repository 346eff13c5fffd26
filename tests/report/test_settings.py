"""Settings choose context indices and refuse what makes no sense."""

import json

import pytest

from ih_lens.errors import InputError
from ih_lens.report.settings import TableSettings


@pytest.mark.parametrize(("n_pos", "indices"), [(512, (50, 500)), (48, (5, 47)), (1024, (50, 500))])
def test_indices_are_the_papers_or_their_share(n_pos: int, indices: tuple[int, int]) -> None:
    assert TableSettings().resolved(n_pos).context_indices == indices


def test_given_indices_stay() -> None:
    assert TableSettings(early=2).resolved(48).scoring == {"early": 2, "late": 47, "window": 0}
    assert TableSettings(early=3, late=9, window=1).resolved(48).scoring == {"early": 3, "late": 9, "window": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early": 9, "late": 9}, "early must lie before late, got early=9 and late=9"),
        ({"late": 48}, r"context index 48: expected 1..47"),
        ({"early": 0}, r"context index 0: expected 1..47"),
    ],
)
def test_impossible_indices_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableSettings(**changes).resolved(48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": -1}, "window: expected an integer of at least 0"),
        ({"n_examples": 0}, "n_examples: expected an integer of at least 1"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"threads": 0}, "threads: expected an integer of at least 1"),
        ({"ablation": "some"}, "ablation: expected one of pattern_preserving, full; got 'some'"),
        ({"replace": "noise"}, "replace: expected one of zero, mean, resample"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableSettings(**changes)  # pyright: ignore[reportArgumentType]


def test_unresolved_indices_are_not_guessed() -> None:
    with pytest.raises(InputError, match=r"call resolved\(n_pos\)"):
        _ = TableSettings().context_indices


def test_settings_are_json() -> None:
    assert TableSettings(**json.loads(json.dumps(TableSettings(seed=3).to_dict()))) == TableSettings(seed=3)

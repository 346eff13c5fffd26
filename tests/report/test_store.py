"""The store keeps what it was given, notices damage, and never shows half an entry."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ih_lens.errors import DamagedFileError
from ih_lens.report.store import MeasurementStore, digest, entry_key

KEY = entry_key("losses", {"weights": "abc"})


def example() -> xr.Dataset:
    numbers = np.array([[1.5, np.nan, -0.0], [np.inf, 2.0, 3.0]], dtype=np.float32)
    return xr.Dataset(
        {"score": (("layer", "head"), numbers, {"unit": "nats"}), "flag": ("layer", np.array([True, False]))},
        {"layer": [0, 1], "group": ("head", ["L0H0", "L0H1", "L0H0+L0H1"]), "step": 7},
        {"fingerprint": "f", "window": 2},
    )


def test_an_entry_comes_back_identical(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "new" / "folder")
    assert store.read(KEY) is None
    store.write(KEY, example())
    back = store.read(KEY)
    assert back is not None
    xr.testing.assert_identical(back, example())
    assert {name: back[name].dtype for name in back} == {name: example()[name].dtype for name in example()}


def test_writing_does_not_look_through_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MeasurementStore(tmp_path)
    left = tmp_path / f".tmp-{KEY}-abcdef-12345678"
    left.touch()
    with monkeypatch.context() as watched:  # else ten thousand entries would cost as many listings of all of them
        for name in ("scandir", "listdir"):
            watched.setattr(os, name, lambda *_: pytest.fail("looked through the folder"))
        store.write(KEY, example())
    assert left.exists()
    store.clear_temporaries()
    assert not left.exists()


def test_keys_differ_with_every_ingredient_and_not_with_their_order() -> None:
    assert entry_key("losses", {"a": 1, "b": 2}) == entry_key("losses", {"b": 2, "a": 1})
    keys = {entry_key("losses", {"a": 1}), entry_key("losses", {"a": 2}), entry_key("ablation", {"a": 1})}
    assert len(keys) == 3


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_entry_is_noticed(tmp_path: Path, kept: int) -> None:
    store = MeasurementStore(tmp_path)
    store.write(KEY, example())
    store.path(KEY).write_bytes(store.path(KEY).read_bytes()[:kept])
    with pytest.raises(DamagedFileError, match=r"damaged .*; delete it and measure again"):
        store.read(KEY)


def test_altered_numbers_are_noticed(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path)
    store.write(KEY, example())
    content = bytearray(store.path(KEY).read_bytes())
    content[-2] ^= 1
    store.path(KEY).write_bytes(bytes(content))
    with pytest.raises(DamagedFileError, match="differ from their checksum"):
        store.read(KEY)


def test_an_entry_under_another_name_is_refused(tmp_path: Path) -> None:
    store, other = MeasurementStore(tmp_path), entry_key("losses", {"weights": "other"})
    store.write(KEY, example())
    os.rename(store.path(KEY), store.path(other))
    with pytest.raises(DamagedFileError, match="it says 'ih_lens measurement 1'"):
        store.read(other)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        MeasurementStore(tmp_path).write(KEY, example())
    assert list(tmp_path.iterdir()) == []


def test_the_digest_sees_numbers_labels_and_dimensions() -> None:
    base = example()
    changed = [
        base.assign(score=base["score"] + 1),
        base.assign_coords(layer=[0, 2]),
        base.assign_coords(group=("head", ["L0H0", "L0H1", "L0H2"])),
        base.rename(score="other"),
        base.rename_dims(head="column"),
    ]
    assert digest(base) == digest(base.copy(deep=True))
    assert digest(base) not in {digest(dataset) for dataset in changed}

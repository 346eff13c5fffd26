import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih
from ih_lens.head_spread import HeadSpread
from ih_lens.statistics import corrected

P_VALUES = xr.DataArray(
    [[0.2, np.nan, 0.001], [0.01, 0.9, 0.012]], {"layer": [0, 1], "head": [0, 1, 2]}, ("layer", "head")
)


def test_heads_are_listed_by_p_value_with_corrections() -> None:
    table = ih.significant_heads(P_VALUES, correction="holm", level=0.05)
    assert table["head"].tolist() == ["L0H2", "L1H0", "L1H2", "L0H0", "L1H1"]
    assert table["significant"].tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(table["corrected"], np.sort(corrected(P_VALUES.to_numpy(), "holm").ravel())[:5])
    assert table.attrs == {"n_tests": 5, "level": 0.05, "correction": "holm"}
    assert not ih.significant_heads(P_VALUES, correction="none", level=0.011)["significant"][2]


def test_values_stand_beside() -> None:
    examples = torch.arange(24.0).reshape(4, 2, 3) ** 2
    spread = HeadSpread.from_tensors({"a": examples, "b": -examples}, 2, 3, keep_examples=True)
    scores = ih.HeadScores.from_tensors({"a": examples.mean(dim=0), "b": -examples.mean(dim=0)}, spread=spread)
    table = ih.significant_heads(scores.p_value("b", null=0.0), scores)
    first = table.iloc[0]
    assert first["value"] == scores.head(first["head"])["b"]
    assert first["stderr"] == float(scores.stderr("b")[tuple(ih.HeadIndex.parse(first["head"]))])
    effects = ih.Estimate.from_examples(
        xr.DataArray(np.ones((2, 3)), {"group": ["L0H0+L0H1", "L1H0"]}, ("group", "example"))
    )
    table = ih.significant_heads(effects.p_value(0.0), effects)
    assert table["group"].tolist() == ["L0H0+L0H1", "L1H0"]
    assert list(table.columns) == ["group", "value", "stderr", "p_value", "corrected", "significant"]


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ih.InputError, match="correction: expected one of benjamini_hochberg, holm, none"):
        ih.significant_heads(P_VALUES, correction="bonferroni")
    with pytest.raises(ih.InputError, match="level: expected a number between 0 and 1"):
        ih.significant_heads(P_VALUES, level=5.0)

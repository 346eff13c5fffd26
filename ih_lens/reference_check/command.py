"""The body of `ih-lens check`: one line for each measure, and what to do where one lies outside."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ih_lens.models.files import library_versions

_COLUMNS = "{:<34} {:>12} {:>12} {:>12} {:>12}  {}"


def check_lines(compared: pd.DataFrame) -> Iterator[str]:
    """What is printed of the result of `check_reference_numbers`: of each measure the number that is farthest off."""
    yield ", ".join(f"{library} {version}" for library, version in library_versions().items())
    yield _COLUMNS.format("measure", "expected", "got", "difference", "tolerance", "").rstrip()
    share = np.where(compared.difference == 0, 0.0, compared.difference / compared.tolerance.clip(lower=1e-300))
    for measure, rows in compared.assign(share=share).groupby("measure", sort=False):
        worst = rows.loc[rows.share.idxmax()]
        numbers = [f"{worst[name]:.8g}" for name in ("expected", "got")]
        sizes = [f"{worst[name]:.1e}" for name in ("difference", "tolerance")]
        yield _COLUMNS.format(measure, *numbers, *sizes, "" if rows.within.all() else "OUTSIDE").rstrip()
    n_numbers, outside = int(compared.n_numbers.sum()), compared[~compared.within]
    if outside.empty:
        yield f"All {n_numbers:,} numbers of {compared.model.nunique()} models lie within their tolerances."
        return
    named = ", ".join(f"{measure} of {model}" for measure, model in zip(outside.measure, outside.model, strict=True))
    yield (
        f"Outside their tolerances: {named}. This installation gives other numbers than the one that the tests of "
        "ih_lens run on; compare the versions above with constraints.txt, and report what was printed"
    )

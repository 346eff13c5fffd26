"""Every target on what was really written, which it must read, and on changed copies, which it may refuse properly."""

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target, all_targets

TARGETS = all_targets()
_CHECKS = list(HealthCheck)
_NEVER_REFUSE = {"last_loss"}
"""Readers of files that somebody is just writing, which then show nothing."""


@pytest.mark.parametrize("name", TARGETS)
def test_really_written_files_are_read(name: str) -> None:
    for seed in TARGETS[name].seeds():
        assert TARGETS[name].accepts(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_altered_files_are_refused_as_they_should_be(name: str) -> None:
    assert _n_refused(TARGETS[name]) > 0 or name in _NEVER_REFUSE


def _n_refused(target: Target) -> int:
    seeds, n_refused = target.seeds(), 0

    @settings(
        max_examples=16,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=_CHECKS,
        phases=[Phase.generate],
    )
    @given(st.integers(0, 2**32))
    def read(number: int) -> None:
        nonlocal n_refused
        random = Random(number)
        content = mutated(random.choice(seeds), target.kind, random)
        n_refused += not target.accepts(content)

    read()
    return n_refused

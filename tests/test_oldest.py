"""The file that `make test-oldest` installs with says what pyproject.toml allows."""

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.oldest import lower_bound, pinned, requirements


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_lower_bound_is_what_the_oldest_environment_gets(requirement: Requirement) -> None:
    pin = pinned()[canonicalize_name(requirement.name)]
    assert Version(pin) == Version(lower_bound(requirement)), "run: python -m tests.oldest"


def test_what_extras_share_has_one_bound() -> None:
    bounds = {(requirement.name, lower_bound(requirement)) for requirement in requirements()}
    assert len({name for name, _ in bounds}) == len(bounds)


def test_newer_versions_are_refused_only_where_pyproject_says_why() -> None:
    capped = {requirement.name for requirement in requirements() if len(requirement.specifier) > 1}
    assert capped == {"transformer-lens", "mkdocs", "mkdocs-material"}

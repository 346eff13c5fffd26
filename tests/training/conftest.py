from collections.abc import Generator

import pytest


@pytest.fixture(autouse=True, scope="module")
def state_with_every_snapshot() -> Generator[None]:
    """A training of a second would save none before its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ih_lens.training.loop._SECONDS_BETWEEN_STATES", 0.0)
        yield

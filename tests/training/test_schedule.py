import pytest

import ih_lens as ih
from ih_lens.training.schedule import SnapshotSchedule


@pytest.mark.parametrize(
    ("schedule", "n_steps", "steps"),
    [
        (ih.every(40), 100, [0, 40, 80, 100]),
        (ih.every(50), 100, [0, 50, 100]),
        (ih.every(500), 100, [0, 100]),
        (ih.powers_of_two(0, 3), 100, [0, 1, 2, 4, 8, 100]),
        (ih.powers_of_two(5, 30), 64, [0, 32, 64]),
        (ih.powers_of_two(5, 30), 63, [0, 32, 63]),
        (ih.at_steps([7, 3, 7, 500]), 10, [0, 3, 7, 10]),
        (ih.at_steps([0]), 1, [0, 1]),
    ],
)
def test_steps(schedule, n_steps, steps):
    assert schedule.steps(n_steps) == steps


def test_exponential_and_json():
    for schedule, exponential in ((ih.every(3), False), (ih.powers_of_two(1, 4), True), (ih.at_steps([1, 2]), False)):
        assert schedule.exponential is exponential
        assert SnapshotSchedule.from_json(schedule.to_json()) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ih.every(0), "every: expected an integer of at least 1, got 0"),
        (lambda: ih.powers_of_two(3, 2), "last exponent: expected an integer of at least 3"),
        (lambda: ih.powers_of_two(-1, 2), "first exponent"),
        (lambda: ih.at_steps([]), "at least one step"),
        (lambda: ih.at_steps([-4, 2]), "got -4"),
        (lambda: SnapshotSchedule("every", ()), "expected one number"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ih.InputError, match=message):
        make()

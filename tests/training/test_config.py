import itertools
import json
import subprocess
import sys

import pytest

import ih_lens as ih
from tests.training.helpers import tiny_config


def test_json_round_trip():
    config = tiny_config(
        snapshots=ih.powers_of_two(0, 3),
        weight_decay_changes=((4, 0.01), (9, 0.0)),
        grad_clip=None,
        precision="bfloat16",
    )
    assert ih.TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_learning_rate_warms_up_and_stays():
    config = tiny_config(n_steps=10, lr=0.4, warmup_steps=4)
    assert [config.learning_rate(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert tiny_config(lr=0.4, warmup_steps=0).learning_rate(0) == 0.4


@pytest.mark.parametrize(("after", "middle"), [("linear", 0.55), ("cosine", 0.55)])
def test_learning_rate_decays_to_its_final_fraction(after, middle):
    config = tiny_config(n_steps=14, lr=1.0, warmup_steps=3, after_warmup=after, final_lr_fraction=0.1)
    rates = [config.learning_rate(step) for step in range(14)]
    assert rates[3] == pytest.approx(1.0)
    assert rates[8] == pytest.approx(middle)
    assert rates[13] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[3:]))


def test_weight_decay_changes_at_its_steps():
    config = tiny_config(weight_decay=0.1, weight_decay_changes=((4, 0.01), (6, 0.0)))
    assert [config.weight_decay_at(step) for step in range(2, 8)] == [0.1, 0.1, 0.01, 0.01, 0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "n_steps: expected an integer of at least 1"),
        ({"lr": 0.0}, "lr: expected a positive number, got 0.0"),
        ({"lr": float("nan")}, "lr"),
        ({"seed": -1}, "seed"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"weight_decay_changes": ((5, 0.1), (3, 0.0))}, "rising steps"),
        ({"weight_decay_changes": ((5, -0.1),)}, "rising steps"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"grad_clip": 0.0}, "grad_clip: expected a positive number or None"),
        ({"final_lr_fraction": 2.0}, "final_lr_fraction"),
        ({"n_held_out": -1}, "n_held_out"),
        ({"state_every": 0}, "state_every"),
        ({"device": "gpu7"}, "device: expected"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ih.InputError, match=message):
        tiny_config(**changes)


def test_refuses_json_of_something_else():
    with pytest.raises(ih.InputError, match="no training configuration"):
        ih.TrainConfig.from_json({"steps": 3})


def test_refuses_wrong_types():
    """In a process of its own, because here jaxtyping stops them before they arrive."""
    cases = {
        "batch_size": 2.5,
        "lr": "fast",
        "weight_decay_changes": (5, 0.1),
        "betas": (0.9,),
        "precision": "float16",
        "after_warmup": "step",
        "snapshots": 50,
        "device": 3.5,
    }
    code = (
        "from ih_lens.training.config import TrainConfig\n"
        "from ih_lens.errors import InputError\n"
        f"for name, value in {cases!r}.items():\n"
        "    try:\n"
        "        TrainConfig(**{'n_steps': 1, 'batch_size': 1, 'lr': 1.0, name: value})\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split(": expected")[0] for line in told] == list(cases)

"""Targets: configurations of trainings, models, schedules and clamps as JSON, and listings of published checkpoints."""

import json
from functools import cache
from typing import Any

import ih_lens as ih
from ih_lens.clamping.plan import Plan
from ih_lens.errors import InputError
from ih_lens.models.config_json import config_from_json, config_to_json
from ih_lens.models.published import open_published
from ih_lens.models.published_record import PUBLISHED_RECORD
from tests.fuzz.files import scratch
from tests.fuzz.targets import Target
from tests.helpers import tiny_model


def _parsed(content: bytes) -> dict[str, Any]:
    """What JSON says; these readers are given dictionaries, because whoever reads a file asks for one first."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("no JSON") from error
    if not isinstance(record, dict):
        raise InputError("no dictionary")
    return record


def _written(record: Any) -> list[bytes]:
    return [json.dumps(record).encode()]


def _training(content: bytes) -> object:
    config = ih.TrainConfig.from_json(_parsed(content))
    if config.to_json() != ih.TrainConfig.from_json(config.to_json()).to_json():
        raise AssertionError(f"it changes on the way to JSON and back: {config}")
    return config.snapshots.steps(config.n_steps), config.learning_rate(3), config.weight_decay_at(3)


def _trainings() -> list[bytes]:
    schedules = (ih.every(3), ih.powers_of_two(1, 3), ih.at_steps([1, 4]))
    return [
        json.dumps(
            ih.TrainConfig(
                n_steps=9, batch_size=2, lr=1e-3, snapshots=snapshots, weight_decay_changes=((3, 0.1),)
            ).to_json()
        ).encode()
        for snapshots in schedules
    ]


def _model(content: bytes) -> object:
    return config_from_json(_parsed(content))


def _models() -> list[bytes]:
    kinds = ("attention_only", "with_mlps", "rotary", "rms_grouped", "local")
    return [json.dumps(config_to_json(tiny_model(kind).cfg)).encode() for kind in kinds]


def _plan(content: bytes) -> object:
    """A plan that is read can be checked against a model, printed and written down again."""
    plan = Plan.from_json(_parsed(content))
    said = str(plan), Plan.from_json(plan.to_json())
    plan.check(_clamped().cfg)
    return said


@cache
def _clamped() -> Any:
    return tiny_model("attention_only")


def _plans() -> list[bytes]:
    clamps = [
        ih.PreviousToken("L0H3", during=ih.During(2, 9, ramp=2)),
        ih.InductionTarget(["L1H0", "L1H1"], strength=0.5, during=ih.When("loss", "below", 3.0, 2.0)),
        ih.LabelMatch("L1H2", rows="odd", correct=0.7),
        ih.Forbid(["L0H0", "L1H1"], keys="previous"),
        ih.Allow("L0H0", keys=(0, 1)),
        ih.Temperature("L1H1", temperature=2.0),
        ih.MeanHead("L0H0", over="given", means=((0.5, 1.0, 0.0, 2.0),)),
        ih.Preserve("pattern", layers=[1]),
        ih.ShiftedLayer(1),
        ih.IdealOV("L1H0", gain=3.0),
    ]
    return [json.dumps(Plan(clamps[:4], "zero").to_json()).encode()] + [
        json.dumps(Plan(clamp).to_json()).encode() for clamp in clamps
    ]


def _published(content: bytes) -> object:
    """Everything that the record of a published run is asked for without the hub."""
    folder = scratch() / "published"
    folder.mkdir(exist_ok=True)
    (folder / PUBLISHED_RECORD).write_bytes(content)
    run = open_published(folder)
    if run is None:
        raise AssertionError("the record is there")
    return run.cfg, run.n_steps, run.finished, run.exponential, run.manifest, [str(one) for one in run.snapshots]


def _published_records() -> list[bytes]:
    steps = [{"revision": f"step{step}", "step": step, "tokens_elapsed": 2 * step, "file": None} for step in (0, 1, 9)]
    record = {
        "format": "ih_lens published run",
        "version": 1,
        "repository": "EleutherAI/pythia-14m",
        "dtype": "float32",
        "published": steps,
        "chosen": [0, 9],
        "commits": {"step0": "a" * 40, "step9": "b" * 40},
        "model": config_to_json(tiny_model("rotary").cfg),
        "tokenizer": None,
        "n_bytes": 100,
    }
    return _written(record)


CONFIGURATIONS: dict[str, Target] = {
    "training_configuration": Target(_training, _trainings, "json"),
    "model_configuration": Target(_model, _models, "json"),
    "clamp_plan": Target(_plan, _plans, "json"),
    "published_record": Target(_published, _published_records, "json"),
}

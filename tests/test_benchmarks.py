"""The benchmarks still run, at tiny sizes, and both sides of each agree; their times mean nothing here."""

import json
from pathlib import Path

import joblib
import pytest
import torch

import ih_lens as ih
from benchmarks import demo, paper_row, report, run, scale
from benchmarks.cases import all_cases, find_case
from benchmarks.harness import interleave, largest_difference
from benchmarks.memory import cost_of, operations_counter
from benchmarks.plan import Plan
from ih_lens.demo import TASK, demo_series
from ih_lens.models.linear import linear

PLAN = Plan(tiny=True)


@pytest.mark.parametrize("name", [case.name for case in all_cases(PLAN)])
def test_both_sides_agree(name: str) -> None:
    case = find_case(name, PLAN)
    with joblib.parallel_config(backend="threading"):  # starting processes takes long
        timing = interleave(case.open(), n_examples=case.n_examples, rounds=2, n_warm_up=min(case.n_warm_up, 1))
    assert timing.difference <= case.tolerance
    assert min(timing.today_seconds + timing.our_seconds) > 0


def test_a_difference_is_seen() -> None:
    one, other = torch.tensor([1.0, torch.nan]), torch.tensor([1.5, torch.nan])
    assert largest_difference({"a": one}, {"a": other}) == 0.5
    assert largest_difference({"a": 4 * one}, {"a": 4 * other}, relative=True) == 0.5
    assert largest_difference({"a": one}, {"a": torch.tensor([1.0, 2.0])}) == float("inf")
    assert largest_difference({"a": one}, {"b": one}) == float("inf")


def test_memory_and_operations_are_measured() -> None:
    case = find_case("ablation-2L", PLAN)
    today, ours = (cost_of(case.open(), which, case) for which in ("today", "ours"))
    assert min(today.operations, ours.operations) > 0


def test_products_that_pytorch_does_not_count_are_counted() -> None:
    total, a, b, bias = torch.zeros(2, 4), torch.ones(2, 3), torch.ones(3, 4), torch.ones(4)
    with operations_counter() as counter:
        total.addmm_(a, b)
    assert counter.get_total_flops() == 2 * 2 * 3 * 4
    with torch.no_grad(), operations_counter() as counter:
        linear(a.expand(5, 2, 3), b.T, bias)
    assert counter.get_total_flops() == 5 * 2 * 2 * 3 * 4


def test_costs_over_scale_and_the_paper_row_are_measured() -> None:
    points = scale.measure(PLAN)
    assert {point.varied for point in points} == {"n_examples", *scale.EXTENTS}
    assert all(point.seconds_per_head_token > 0 for point in points)
    assert paper_row.measure(PLAN).operations > 0


def test_what_goes_beyond_the_paper_has_its_cost() -> None:
    record = run.run(Plan(tiny=True, quick=True), ["beyond"], "make bench", lambda _: None)
    assert not run.wrong(record)
    calls = {expense["name"].partition("(")[0] for expense in record["beyond"]}
    assert calls <= set(dir(ih))
    assert all(expense["processor_seconds"] > 0 for expense in record["beyond"])
    page = report.page(record)
    assert all(f"| `{expense['name']}`: {expense['work']} |" in page for expense in record["beyond"])


def test_the_demo_is_extrapolated(tmp_path: Path) -> None:
    specs = [demo_series()["Attention only"][1], demo_series()["Smeared keys"][0]]
    config = ih.TrainConfig(n_steps=2, batch_size=4, lr=1e-3, snapshots=ih.every(2), n_held_out=4)
    runs = ih.train_series(specs, TASK, config, out=tmp_path, progress=False)
    found = demo.today(specs, runs, config, seconds=1.0, n_sampled_steps=2)
    assert found.difference < 1e-4
    assert found.ratio == (found.today_training_seconds + found.today_measuring_seconds) / 2


def test_a_run_is_recorded_and_its_page_written(tmp_path: Path) -> None:
    record = run.run(Plan(tiny=True, quick=True), ["training", "scale"], "make bench", lambda _: None)
    assert not run.wrong(record)
    report.write(record, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf8")) == record
    assert "`training`: a training step" in report.page(record)
    assert report.overview(record).row_count == 1


def test_what_fails_or_disagrees_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.scale, "measure", lambda _: 1 / 0)
    record = run.run(Plan(tiny=True, quick=True), ["scale"], "make bench", lambda _: None)
    assert record["failed"] == {"scale": "ZeroDivisionError: division by zero"}
    record |= {"rows": [{"name": "a", "agrees": False}], "demo": {"agrees": False}}
    assert run.wrong(record) == ["scale", "a", "demo"]


def test_the_page_shows_the_record_beside_it() -> None:
    record = json.loads((report.DOCS / "benchmarks.json").read_text(encoding="utf8"))
    assert (report.DOCS / "benchmarks.md").read_text(encoding="utf8") == report.page(record)

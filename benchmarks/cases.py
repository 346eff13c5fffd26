"""Every case by name."""

from benchmarks import ablation, behaviours, evaluators, kinds, mechanism, open_questions, scale, training, workers
from benchmarks.harness import Case
from benchmarks.plan import Plan


def all_cases(plan: Plan) -> list[Case]:
    """The rows with two sides, in the order of the table."""
    return [
        case
        for part in (ablation, evaluators, kinds, mechanism, behaviours, open_questions, training, workers)
        for case in part.cases(plan)
    ]


def find_case(name: str, plan: Plan) -> Case:
    """A row, or one extent of the tables of scale."""
    found = {case.name: case for case in (*all_cases(plan), *scale.points(plan))}
    return found[name]

"""One thing has one name: what arguments of the public functions, and options of the commands, are not called."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import typer

import ih_lens as ih
from ih_lens.cli import app

CALLED = {
    "batch": "batch_size",
    "chunk_size": "batch_size",
    "random_state": "seed",
    "rng": "seed",
    "generator": "seed",
    "n_samples": "n_examples",
    "num_examples": "n_examples",
    "n_jobs": "workers",
    "n_workers": "workers",
    "verbose": "progress",
    "show_progress": "progress",
    "seq_len": "n_pos",
    "n_positions": "n_pos",
    "n_tokens_per_example": "n_pos",
    "confidence": "level",
    "n_bootstrap": "n_resamples",
    "baseline_draws": "n_draws",
    "n_permutations": "n_draws",
    "n_stderrs": "min_stderrs",
    "prefix_length": "n_prefix",
    "y_title": "unit",
    "color": "colour",
    "output": "out",
    "output_dir": "out",
    "filename": "path",
    "head_indices": "heads",
    "layer_heads": "heads",
    "prepend_bos": "bos",
    "ablation_type": "kind",
    "learning_rate": "lr",
    "num_steps": "n_steps",
    "index_late": "late",
    "index_early": "early",
    "cutoff": "threshold",
}
"""Words for something that has another name here, which stands beside them."""
OPTIONS_CALLED = CALLED | {
    "examples": "n_examples",
    "held_out": "n_held_out",
    "layers": "n_layers",
    "heads": "n_heads",
    "budget_gb": "disk_budget_gb",
}
"""On the command line a number is called as the argument is that it becomes."""


def _arguments(name: str, called: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    try:
        parameters = inspect.signature(called).parameters
    except ValueError:  # built-in
        return
    yield from ((name, argument) for argument in parameters)


def _public_arguments() -> Iterator[tuple[str, str]]:
    for module in (ih, ih.viz):
        for name in (name for name in dir(module) if not name.startswith("_")):
            found = getattr(module, name)
            if callable(found):
                yield from _arguments(name, found)
            if inspect.isclass(found):
                for method in {member for member in vars(found) if not member.startswith("_")}:
                    if callable(bound := getattr(found, method, None)):
                        yield from _arguments(f"{name}.{method}", bound)


def test_arguments_have_the_names_that_others_have() -> None:
    arguments = list(_public_arguments())
    assert len(arguments) > 1000, "the public functions were not found"
    assert [f"{where}: {name}, called {CALLED[name]}" for where, name in arguments if name in CALLED] == []


def test_options_have_the_names_of_arguments() -> None:
    commands: Any = typer.main.get_command(app)
    options = [(command, option.name) for command, group in commands.commands.items() for option in group.params]
    assert len(options) > 60, "the commands were not found"
    other = [(command, name) for command, name in options if name in OPTIONS_CALLED]
    assert [f"{command}: {name}, called {OPTIONS_CALLED[name]}" for command, name in other] == []

"""The examples in the docstrings of the public functions run, and give what they say they give.

Each `Examples:` section runs in a namespace with everything public and the prepared names of `tests/docs_names.py`.
Output that an example shows is compared; where its numbers are those of a real model, all but the numbers.
"""

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.io
import pytest
import torch

import ih_lens as ih
from tests.docs_names import FILES, Prepared
from tests.docstring_names import FILES_OF, GIVEN, NUMBERS_OPEN, RESULT_OPEN, SHORTER

_NUMBER = re.compile(r"-?\d[\d_]*(\.\d+)?(e[+-]?\d+)?")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _public() -> Iterator[tuple[str, Any]]:
    """Every public function, class and method, by its name."""
    for where, prefix in ((ih, ""), (ih.viz, "viz.")):
        for name in dir(where) if where is ih.viz else vars(ih)["__all__"]:
            value = getattr(where, name)
            if name.startswith("_") or not callable(value):
                continue
            yield prefix + name, value
            if inspect.isclass(value):
                for inner, method in vars(value).items():
                    if not inner.startswith("_") and (callable(method) or isinstance(method, classmethod | property)):
                        yield (
                            f"{prefix}{name}.{inner}",
                            method if isinstance(method, property) else getattr(value, inner),
                        )


def _examples(value: Any) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


WITH_EXAMPLES = {name: value for name, value in _public() if _examples(value)}


class _Checker(doctest.OutputChecker):
    """Compares what an example shows; nothing is shown for what would be long."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if not want or self.name in RESULT_OPEN:
            return True
        if self.name in NUMBERS_OPEN:
            want, got = (_NUMBER.sub("#", text) for text in (want, got))
        return super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_example(name: str, tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples(WITH_EXAMPLES[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plotly.io, "show", lambda figure, *_, **__: figure.to_json())
    for file in FILES_OF.get(name, ()):
        FILES[file](prepared, tmp_path / file)
    for example in examples:
        for usual, short in SHORTER.get(name, {}).items():
            example.source = example.source.replace(usual, short)
    everything: dict[str, Any] = {found: getattr(ih, found) for found in vars(ih)["__all__"]}
    drawing = {found: value for found, value in vars(ih.viz).items() if callable(value)}
    names = everything | drawing if name.startswith("viz.") else drawing | everything
    names |= {"pd": pd, "torch": torch}
    names |= {found: make(prepared) for found, make in GIVEN.get(name, {}).items()}
    prepared.provide(compile("".join(example.source for example in examples), name, "exec"), names)
    test = doctest.DocTest(examples, names, name, None, None, None)
    said: list[str] = []
    found = doctest.DocTestRunner(_Checker(name), optionflags=_FLAGS, verbose=False).run(test, out=said.append)
    assert found.failed == 0, "".join(said)


def test_no_special_treatment_is_left_over() -> None:
    assert {*GIVEN, *FILES_OF, *SHORTER, *NUMBERS_OPEN, *RESULT_OPEN} <= set(WITH_EXAMPLES)
    for name, replacements in SHORTER.items():
        source = "".join(example.source for example in _examples(WITH_EXAMPLES[name]))
        assert all(usual in source for usual in replacements), name

"""The documentation's table of what works under transformer-lens 4.x, from what was measured in both versions.

    python -m tests.bridges_4x.supported REFERENCE_FOLDER

with 4.x installed measures everything, compares it with what 3.9 gave (`tests.bridges_4x.measured`), and writes the
table into docs/your-model.md.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bridges_4x.calls import CALLS
from tests.bridges_4x.measured import Measured, difference, read, write
from tests.bridges_4x.models import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"
_BEGIN, _END = "<!-- begin of the table of bridges -->\n", "<!-- end of the table of bridges -->\n"
_BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2)
_AT_LEAST = {"induction_view": 1e-2}
"""What is kept in 255ths."""
_ROOM = 2.0
"""For other machines, on which rounding differs."""

Results = Mapping[tuple[str, str], Measured]


def bound(call: str, found: Measured, reference: Measured) -> float:
    """The power of ten that a difference is documented to stay below."""
    measured = _ROOM * difference(found, reference)
    return next(limit for limit in _BOUNDS if measured <= limit and limit >= _AT_LEAST.get(call, 0.0))


def table(found: Results, reference: Results) -> str:
    """The table in Markdown, and below it the reasons of what is refused."""
    reasons: list[str] = []
    lines = [_row("call", *KINDS), _row(*["---"] * (1 + len(KINDS)))]
    for call in CALLS:
        cells = [_cell(call, found[kind, call], reference[kind, call], reasons) for kind in KINDS]
        lines.append(_row(f"`{call}`" if "," not in call else "`{}`,{}".format(*call.split(",", 1)), *cells))
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def _cell(call: str, found: Measured, reference: Measured, reasons: list[str]) -> str:
    if found.refused is None:
        return f"{bound(call, found, reference):.0e}"
    if found.refused not in reasons:
        reasons.append(found.refused)
    return f"no ({reasons.index(found.refused) + 1})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def documented() -> dict[tuple[str, str], float | str]:
    """What the page says: by kind and call a bound, or the reason of a refusal."""
    text = PAGE.read_text(encoding="utf8")
    inside = text[text.index(_BEGIN) + len(_BEGIN) : text.index(_END)]
    reasons = dict(re.findall(r"^(\d+)\. (.*)$", inside, flags=re.MULTILINE))
    rows = [line.strip("| ").split(" | ") for line in inside.splitlines() if line.startswith("| `")]
    cells: dict[tuple[str, str], float | str] = {}
    for call, *of_kinds in rows:
        for kind, cell in zip(KINDS, of_kinds, strict=True):
            refused = re.fullmatch(r"no \((\d+)\)", cell)
            cells[kind, call.replace("`", "")] = float(cell) if refused is None else reasons[refused[1]]
    return cells


def main(reference: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        made = table(read(Path(folder)), read(reference))
    text = PAGE.read_text(encoding="utf8")
    before, after = text[: text.index(_BEGIN)], text[text.index(_END) :]
    PAGE.write_text(f"{before}{_BEGIN}{made}{after}", encoding="utf8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The notebooks of demos/, copied to a folder in which they can be run and changed: `ih-lens notebooks`."""

from collections.abc import Iterator
from pathlib import Path

from ih_lens.atomic import write_bytes
from ih_lens.errors import DamagedFileError, InputError

_PACKED = Path(__file__).parent / "demos"
"""Where a wheel has them; a clone has them once, beside the package."""
_PATTERNS = ("README.md", "*.ipynb", "images/*.png", "stand_ins.py")


def notebook_files() -> dict[str, Path]:
    """The notebooks and what goes with them, by their place in the folder that they are copied to.

    Returns:
        The page about them, the notebooks, the pictures at their beginnings, and the script that makes small models
        for those that would else download one.

    Raises:
        DamagedFileError: if this installation has none.

    Examples:
        >>> [name for name in notebook_files() if name.endswith(".ipynb")][:2]
        ['attribution_and_viewer.ipynb', 'clamping.ipynb']
    """
    source = _PACKED if _PACKED.is_dir() else _PACKED.parents[1] / "demos"
    found = {str(path.relative_to(source)): path for pattern in _PATTERNS for path in sorted(source.glob(pattern))}
    if not any(name.endswith(".ipynb") for name in found):
        raise DamagedFileError(
            f"{source}: expected the notebooks, which come with the wheel and with a clone; install ih-lens again"
        )
    return found


def copy_notebooks(folder: Path, *, overwrite: bool = False) -> Iterator[str]:
    """Copy the notebooks, yielding what there is to tell.

    Args:
        folder: where to; made if need be. Files there that are the same already are left alone.
        overwrite: also replace files there that are not the same, such as notebooks that were run since.

    Raises:
        InputError: if a file there is not the same and `overwrite` is not given; then nothing is written.

    Examples:
        >>> for line in copy_notebooks(Path("notebooks")):
        ...     print(line)
        6 notebooks in notebooks; notebooks/README.md says what each shows and needs.
        Run them: pip install jupyterlab ipywidgets, then jupyter lab notebooks
        Without a network: python notebooks/stand_ins.py gpt2 gpt2_stand_in, which says what to set
    """
    files = {folder / name: path.read_bytes() for name, path in notebook_files().items()}
    other = [place for place, content in files.items() if place.exists() and not _holds(place, content)]
    if other and not overwrite:
        raise InputError(
            f"{folder}: {', '.join(str(place.relative_to(folder)) for place in other)} would be replaced, and "
            "differs from what is copied; name another folder, or replace with --overwrite"
        )
    for place, content in files.items():
        if not _holds(place, content):
            write_bytes(place, content)
    n_notebooks = sum(place.suffix == ".ipynb" for place in files)
    yield f"{n_notebooks} notebooks in {folder}; {folder / 'README.md'} says what each shows and needs."
    yield f"Run them: pip install jupyterlab ipywidgets, then jupyter lab {folder}"
    yield f"Without a network: python {folder / 'stand_ins.py'} gpt2 gpt2_stand_in, which says what to set"


def _holds(place: Path, content: bytes) -> bool:
    return place.is_file() and place.read_bytes() == content

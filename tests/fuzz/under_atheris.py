"""One target under atheris, in a process of its own, which libFuzzer ends: NAME SECONDS FOLDER-OF-FINDINGS."""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

_SECONDS_PER_INPUT = 20
_MOST_MEGABYTES = 4096


def main(name: str, seconds: str, findings: Path) -> None:
    """Fuzz one target."""
    # of this library alone: PyTorch and the like take minutes
    with atheris.instrument_imports(include=["ih_lens"], enable_loader_override=False):
        from tests.fuzz.mutations import mutated
        from tests.fuzz.targets import all_targets

        target = all_targets()[name]
        seeds = target.seeds()
        for seed in seeds:
            if not target.accepts(seed):
                sys.exit(f"{name}: a seed is refused")
    findings.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        target.accepts(content)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        changed = mutated(content, target.kind, random) if random.random() < 0.6 else atheris.Mutate(content, most)
        return changed[:most]

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        options = {
            "max_total_time": seconds,
            "timeout": _SECONDS_PER_INPUT,
            "rss_limit_mb": _MOST_MEGABYTES,
            "max_len": 4 * max(4096, *map(len, seeds)),
            "artifact_prefix": f"{findings}/{name}-",
            "verbosity": 0,
            "print_final_stats": 1,
        }
        atheris.Setup(
            [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), corpus],
            read,
            custom_mutator=mutate,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

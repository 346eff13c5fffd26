"""Workers on one machine share its GPUs; what is stood in for is only their number."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from ih_lens.report.devices import device_for_job


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_named_device_stays(device: str, tmp_path: Path) -> None:
    with device_for_job(device, n_gpus=4, locks=tmp_path) as chosen:
        assert chosen == device


@pytest.mark.parametrize("n_gpus", [0, 1])
def test_without_a_choice_there_is_none(n_gpus: int, tmp_path: Path) -> None:
    with device_for_job("cuda", n_gpus=n_gpus, locks=tmp_path) as chosen:
        assert chosen == "cuda"
    assert not list(tmp_path.iterdir())


def test_jobs_at_the_same_time_spread_over_the_gpus(tmp_path: Path) -> None:
    with ExitStack() as jobs:
        taken = [jobs.enter_context(device_for_job("cuda", n_gpus=3, locks=tmp_path)) for _ in range(7)]
    assert taken == [f"cuda:{place}" for place in (0, 1, 2, 0, 1, 2, 0)]


def test_a_gpu_is_free_again_after_a_job(tmp_path: Path) -> None:
    def chosen() -> ExitStack:
        stack = ExitStack()
        devices.append(stack.enter_context(device_for_job("cuda", n_gpus=2, locks=tmp_path)))
        return stack

    devices: list[str] = []
    first, second = chosen(), chosen()
    first.close()
    third = chosen()
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    second.close()
    third.close()


def test_an_error_of_the_job_comes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own"), device_for_job("cuda", n_gpus=2, locks=tmp_path):
        raise ValueError("own")
    with device_for_job("cuda", n_gpus=2, locks=tmp_path) as chosen:
        assert chosen == "cuda:0"

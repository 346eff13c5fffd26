"""One process or several: the same training, split over devices and machines by accelerate."""

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from jaxtyping import Float, Int
from torch import Tensor, nn

from ih_lens.errors import InputError

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Processes:
    """The processes of one training: this one's rank, how many there are, and what connects them."""

    rank: int
    count: int
    accelerator: Accelerator | None

    @classmethod
    def launched(cls, device: str, *, unused_parameters: bool) -> "Processes":
        """Those that `accelerate launch` (or torchrun) started; by itself, if it started none.

        Args:
            device: where the processes compute.
            unused_parameters: whether the model has parameters that its forward pass never reads.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, None)
        handler = DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)
        accelerator = Accelerator(cpu=torch.device(device).type == "cpu", kwargs_handlers=[handler])
        atexit.register(_leave)
        return cls(accelerator.process_index, accelerator.num_processes, accelerator)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def device(self, default: str) -> torch.device:
        """Where this process computes."""
        return torch.device(default) if self.accelerator is None else self.accelerator.device

    def rows(self, batch: Int[Tensor, "batch pos"]) -> Int[Tensor, "part pos"]:
        """This process's examples of a batch."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def require_divisible(self, batch_size: int) -> None:
        """Refuse a batch that cannot be shared equally."""
        if batch_size % self.count:
            raise InputError(
                f"batch_size: {batch_size} examples cannot be shared equally among {self.count} processes; "
                "choose a multiple"
            )

    def join(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over all processes, and the weights of process 0."""
        return module if self.accelerator is None else self.accelerator.prepare_model(module)

    def mean(self, values: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """The mean over all processes."""
        if self.accelerator is not None:
            torch.distributed.all_reduce(values)
            values = values / self.count
        return values

    def from_main(self, compute: Callable[[], Outcome]) -> Outcome:
        """What process 0 computes, in every process; an error that it raises is raised in every process."""
        if self.accelerator is None:
            return compute()
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box = [compute(), None]
            except Exception as error:
                box = [None, error]
        broadcast_object_list(box)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the tensors of process 0, in place."""
        if self.accelerator is not None:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)


def _leave() -> None:
    """End the threads that connect the processes: those that still run when Python ends abort it now and then."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

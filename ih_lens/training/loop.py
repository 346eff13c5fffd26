"""The training loop: steps, losses, snapshots and the state to resume from."""

import math
import time

import torch
from torch import Tensor

from ih_lens.errors import RunError
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.training.batches import Batches
from ih_lens.training.clamped import ClampedSteps
from ih_lens.training.config import TrainConfig
from ih_lens.training.optimizer import build_optimizer, restore_optimizer, set_schedules
from ih_lens.training.processes import Processes
from ih_lens.training.progress import ProgressBar, TrainingCost, progress_bar
from ih_lens.training.run_folder import LossLog, RunFolder
from ih_lens.training.stepper import NextTokenLoss, take_step

_SECONDS_BETWEEN_STATES = 3.0
"""A snapshot brings a state to resume from only after so long: waiting for the disk costs more than small steps."""


class Training:
    """One model on its way from the run folder's last saved step to its last step."""

    def __init__(
        self,
        model: HookedTransformer,
        config: TrainConfig,
        batches: Batches,
        processes: Processes,
        folder: RunFolder,
        clamped: ClampedSteps,
    ) -> None:
        self._model, self._config, self._batches = model, config, batches
        self._processes, self._folder, self._clamped = processes, folder, clamped
        self._manifest = folder.run.manifest
        self._device = next(model.parameters()).device
        self._optimizer = build_optimizer(model, config)
        self._snapshot_steps = config.snapshots.steps(config.n_steps)
        self._pending: list[tuple[int, float, Tensor]] = []
        self._state_saved_at = time.monotonic()

    def run(self, *, progress: bool) -> None:
        """Train to the end.

        Raises:
            RunError: if the loss or the weights became NaN or infinite.
        """
        start = self._resume()
        loss_of = self._processes.join(NextTokenLoss(self._model, self._manifest["forward"], self._batches.predicted))
        tokens_per_step = self._manifest["tokens_per_step"]
        bar = progress_bar(
            self._folder.path.name,
            self._cost(),
            start=start,
            n_steps=self._config.n_steps,
            tokens_per_step=tokens_per_step,
            shown=progress and self._processes.is_main,
        )
        with LossLog(self._folder.path if self._processes.is_main else None, tokens_per_step) as log, bar as shown:
            for step in range(start, self._config.n_steps):
                self._step(loss_of, step)
                saving = self._is_saved(step + 1)
                if saving or self._clamped.waits or len(self._pending) >= _steps_in_flight(self._device):
                    self._note_losses(log, shown)
                if saving:
                    self._save(step + 1)

    def _resume(self) -> int:
        """Bring everything to the last saved step, in every process."""
        position = self._processes.from_main(lambda: self._folder.resume(self._model, self._optimizer))
        start = position.step
        self._clamped.restore(position.held, start)
        if not self._processes.is_main:
            blank = {
                f"{moment}.{name}": torch.zeros_like(parameter)
                for name, parameter in self._model.named_parameters()
                for moment in ("exp_avg", "exp_avg_sq")
            }
            restore_optimizer(self._optimizer, self._model, blank, start)
        moments = [state[key] for state in self._optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
        self._processes.spread([*(parameter.data for parameter in self._model.parameters()), *moments])
        self._processes.from_main(
            lambda: self._folder.require_snapshots([step for step in self._snapshot_steps if step < start])
        )
        if start in self._snapshot_steps:
            self._processes.from_main(lambda: self._folder.save_snapshot(self._model, start))
        return start

    def _step(self, loss_of: torch.nn.Module, step: int) -> None:
        lr = set_schedules(self._optimizer, self._config, step)
        tokens = self._processes.rows(self._batches[step]).to(self._device, non_blocking=True)
        self._clamped.begin(step, self._optimizer)
        loss = take_step(
            loss_of,
            self._optimizer,
            tokens,
            precision=self._manifest["precision"],
            grad_clip=self._config.grad_clip,
        )
        self._clamped.end(self._optimizer)
        self._pending.append((step, lr, loss))

    def _note_losses(self, log: LossLog, bar: ProgressBar) -> None:
        """Write down the losses of the steps since the last time."""
        losses = self._processes.mean(torch.stack([loss for _, _, loss in self._pending])).tolist()
        for (step, lr, _), loss in zip(self._pending, losses, strict=True):
            if not math.isfinite(loss):
                raise RunError(self._diverged(f"the loss of step {step} is {loss}"))
            log.add(step, loss, lr)
            bar.update(step + 1, loss)
        if losses:
            self._clamped.note(losses[-1])
        self._pending.clear()

    def _is_saved(self, step: int) -> bool:
        return step in self._snapshot_steps or self._is_asked_for(step)

    def _is_asked_for(self, step: int) -> bool:
        """Whether a state of this step must be kept, however short ago the last one was."""
        state_every = self._config.state_every
        return step == self._config.n_steps or (state_every is not None and step % state_every == 0)

    def _save(self, step: int) -> None:
        """Save the state first: killed in between, resuming finds the weights of the snapshot that is missing."""
        largest = torch.nn.utils.get_total_norm(list(self._model.parameters()), math.inf)
        if not bool(torch.isfinite(largest)):
            raise RunError(self._diverged(f"after step {step - 1} the weights hold NaN or infinity"))
        self._processes.from_main(lambda: self._save_state(step))
        if step in self._snapshot_steps:
            self._processes.from_main(lambda: self._folder.save_snapshot(self._model, step))

    def _save_state(self, step: int) -> None:
        """Save what resuming needs, unless that was done a moment ago: the steps since then are quickly done again."""
        if self._is_asked_for(step) or time.monotonic() - self._state_saved_at >= _SECONDS_BETWEEN_STATES:
            self._folder.save_state(self._model, self._optimizer, step, self._clamped.held)
            self._state_saved_at = time.monotonic()

    def _diverged(self, what: str) -> str:
        return (
            f"{self._folder.path}: {what}; training stopped, and the snapshots so far are kept. "
            "Train into another folder with a smaller lr, more warmup_steps or a smaller grad_clip"
        )

    def _cost(self) -> TrainingCost:
        n_parameters, width = self._manifest["n_parameters"], self._model.cfg.dtype.itemsize
        return TrainingCost(
            n_parameters=n_parameters,
            n_tokens=self._config.n_steps * self._manifest["tokens_per_step"],
            n_snapshots=len(self._snapshot_steps),
            disk_bytes=(len(self._snapshot_steps) + 3) * n_parameters * width,
        )


def _steps_in_flight(device: torch.device) -> int:
    """How many losses may wait on the device: fetching one from a GPU waits for its step."""
    return 1 if device.type == "cpu" else 16

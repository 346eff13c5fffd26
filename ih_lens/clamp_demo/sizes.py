"""How large everything is in the demonstration of clamps, and a small version of it that only shows that it runs."""

import dataclasses
from dataclasses import dataclass

from ih_lens.data.exemplar_labels import ExemplarLabels
from ih_lens.data.restart_cycle import RestartCycle
from ih_lens.experiments.exemplars import exemplar_model
from ih_lens.models.config import attention_only
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.training.config import TrainConfig
from ih_lens.training.schedule import every


@dataclass(frozen=True)
class DemoSizes:
    """Tasks, models and lengths of the trainings.

    Attributes:
        cycle: the first task.
        exemplars: the second task.
        d_model: width of all models.
        n_heads: heads in each layer of the models on `cycle`.
        n_exemplar_heads: the same on `exemplars`.
        batch_size: examples per step.
        cycle_steps: steps of every training on `cycle`.
        released_at: the step at which the clamp of one of them is let go.
        whole_steps: steps of trainings on `exemplars` that have most of the circuit to learn.
        part_steps: steps of those that are given more of it.
        n_labels: numbers of labels to vary.
        n_classes: numbers of classes to vary.
        n_measured: examples of each measurement.
    """

    cycle: RestartCycle = dataclasses.field(default_factory=RestartCycle)
    exemplars: ExemplarLabels = dataclasses.field(default_factory=ExemplarLabels)
    d_model: int = 64
    n_heads: int = 4
    n_exemplar_heads: int = 8
    batch_size: int = 32
    cycle_steps: int = 700
    released_at: int = 350
    whole_steps: int = 4500
    part_steps: int = 1000
    n_labels: tuple[int, ...] = (5, 10, 15)
    n_classes: tuple[int, ...] = (50, 200, 800)
    n_measured: int = 1000

    def cycle_model(self) -> HookedTransformerConfig:
        """Two attention-only layers; the initial scale is GPT-2's, as in the main demonstration."""
        return attention_only(
            2,
            d_model=self.d_model,
            n_heads=self.n_heads,
            d_vocab=self.cycle.d_vocab,
            n_ctx=self.cycle.n_pos,
            positions="standard",
            initializer_range=0.02,
        )

    def cycle_training(self) -> TrainConfig:
        """AdamW with a little weight decay; only the first and the last model are kept."""
        return TrainConfig(
            n_steps=self.cycle_steps,
            batch_size=self.batch_size,
            lr=1e-3,
            snapshots=every(self.cycle_steps),
            warmup_steps=50,
            weight_decay=0.01,
            betas=(0.9, 0.99),
            precision="float32",
            n_held_out=0,
        )

    def exemplar_model(self, task: ExemplarLabels) -> HookedTransformerConfig:
        """The architecture of Singh et al. 2024."""
        return exemplar_model(task, d_model=self.d_model, n_heads=self.n_exemplar_heads)

    def exemplar_training(self, n_steps: int) -> TrainConfig:
        """Adam without weight decay and warm-up."""
        return TrainConfig(
            n_steps=n_steps,
            batch_size=self.batch_size,
            lr=1e-4,
            snapshots=every(n_steps),
            warmup_steps=0,
            weight_decay=0.0,
            betas=(0.9, 0.999),
            grad_clip=None,
            precision="float32",
            n_held_out=0,
        )


FULL = DemoSizes()
QUICK = DemoSizes(
    cycle=RestartCycle(n_symbols=6, period=3, length=12),
    exemplars=ExemplarLabels(n_classes=6, n_labels=4, n_new_label_pairs=1, n_new_classes=2, d_feature=8),
    d_model=16,
    n_heads=2,
    n_exemplar_heads=2,
    batch_size=4,
    cycle_steps=24,
    released_at=12,
    whole_steps=24,
    part_steps=22,
    n_labels=(4, 5),
    n_classes=(6, 8),
    n_measured=32,
)
"""Nothing is learned in so few steps."""

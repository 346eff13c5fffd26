"""The rows of training: one step of the same model, by the trainer and as one writes it today."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.lean_model import lean_copy
from benchmarks.machine import onednn
from benchmarks.plan import Plan
from benchmarks.shapes import build, new_tokens
from ih_lens.training.optimizer import build_optimizer
from ih_lens.training.stepper import NextTokenLoss, forward_for, take_step

LR = 1e-4


@dataclass(frozen=True)
class _Row:
    name: str
    target: float | None
    today: str
    precision: str = "float32"
    tolerance: float = 1e-4
    lean: bool = False
    lean_onednn: bool = False


_HOOKED = 'model(tokens, return_type="loss"), backward, AdamW'
_LEAN = "a lean plain PyTorch model of the same weights, fused attention and AdamW"
ROWS = (
    _Row("training", 3, _HOOKED),
    _Row("training-bfloat16", 4, _HOOKED + ", float32", "bfloat16", tolerance=0.03),
    _Row("training-lean", 0.95, _LEAN, lean=True),
    _Row("training-lean-onednn", None, _LEAN + ", with PyTorch's switch to oneDNN", lean=True, lean_onednn=True),
)


def cases(plan: Plan) -> list[Case]:
    """The rows of the table."""
    return [
        Case(
            name=row.name,
            work=f"a training step of 4 x 512 tokens, 2 layers, {row.precision}",
            today=row.today,
            open=partial(_open, row, plan),
            target=row.target,
            n_examples=plan.examples(4),
            rounds=plan.rounds(11),
            tolerance=row.tolerance,
            precision=row.precision,
            measures_memory=not row.lean_onednn,
        )
        for row in ROWS
    ]


def _open(row: _Row, plan: Plan) -> Contest:
    model = build("2 layers", tiny=plan.tiny, device=plan.device).requires_grad_(True)
    n_pos = model.cfg.n_ctx
    other = lean_copy(model).requires_grad_(True) if row.lean else copy.deepcopy(model)
    today = _lean_step(other) if row.lean else _hooked_step(other)
    return Contest(
        inputs=lambda seed, n_examples: new_tokens(model, n_examples, n_pos, seed).to(plan.device),
        today=timed(onednn(today) if row.lean_onednn else today, plan.device),
        ours=timed(_trainer_step(model, row.precision), plan.device),
    )


def _hooked_step(model: nn.Module) -> Callable[[Tensor], Numbers]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    return _plain_step(lambda tokens: model(tokens, return_type="loss"), optimizer)


def _lean_step(model: nn.Module) -> Callable[[Tensor], Numbers]:
    return _plain_step(model, torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0, fused=True))


def _plain_step(loss_of: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[Tensor], Numbers]:
    def step(tokens: Tensor) -> Numbers:
        loss = loss_of(tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    return step


def _trainer_step(model: HookedTransformer, precision: str) -> Callable[[Tensor], Numbers]:
    """What `ih.train` does in each step, without clipping."""
    config = ih.TrainConfig(n_steps=1, batch_size=1, lr=LR, betas=(0.9, 0.999), weight_decay=0.0)
    optimizer = build_optimizer(model, config)
    loss_of = NextTokenLoss(model, forward_for(model))

    def step(tokens: Tensor) -> Numbers:
        return {"loss": take_step(loss_of, optimizer, tokens, precision=precision, grad_clip=None)}

    return step

"""Training a model from nothing into a run folder, or continuing one that was interrupted."""

import copy
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from ih_lens.atomic import writing_into
from ih_lens.clamping.apply import require_effect
from ih_lens.clamping.parameters import may_leave_unused
from ih_lens.clamping.plan import Clamps, Plan
from ih_lens.data.corpus import Corpus, TensorCorpus, as_corpus
from ih_lens.errors import InputError
from ih_lens.models.construction import build_model
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.models.runs import Run, open_run
from ih_lens.parallel import torch_threads
from ih_lens.training.batches import Batches
from ih_lens.training.clamped import clamped_steps
from ih_lens.training.config import TrainConfig
from ih_lens.training.feature_embedding import embed_features
from ih_lens.training.loop import Training
from ih_lens.training.manifest import MOST_HELD_OUT, describe
from ih_lens.training.processes import Processes
from ih_lens.training.run_folder import RunFolder, locked


def train(
    cfg: HookedTransformerConfig,
    corpus: Tensor | Corpus,
    config: TrainConfig,
    *,
    out: str | Path,
    smeared_keys: bool = False,
    clamps: Clamps = (),
    progress: bool = True,
) -> Run:
    """Train a model with snapshots into a folder.

    Killed at any moment, it goes on from the last saved step when called again, to the same weights on the same
    machine: with as many threads of PyTorch as it began with, whatever `torch.get_num_threads()` is then. Under
    `accelerate launch` every process trains on its share of each batch.

    Args:
        cfg: the model's configuration.
        corpus: token ids [example, pos], or a corpus of `ih_lens.data`; no example is trained on twice. Of a tensor,
            examples that the steps do not need are held out for measuring.
        config: steps, optimiser, schedules, snapshots and seeds.
        out: the run folder. New or empty: training begins. An unfinished run of the same configuration: it is
            continued. A finished one: it is returned as it is.
        smeared_keys: whether the model's attention layers smear their keys.
        clamps: what is held at chosen values while the model trains; a plan also says what becomes of the optimiser's
            moments. Snapshots are the plain weights: measured inside `clamp(model, ...)` they are clamped again.
        progress: show the cost and a bar while it runs, if this is a terminal or a notebook.

    Returns:
        The run, with its snapshots.

    Raises:
        InputError: if the model and the corpus do not fit together or the corpus is too small.
        CapabilityError: if a clamp has no effect on the model.
        RunError: if `out` holds something else, is being trained into, or the loss became NaN or infinite.
        DamagedFileError: if files of the run to be continued were damaged.
        StorageError: if the disk is full or `out` cannot be written; called again, it goes on from the last saved step.

    Examples:
        >>> config = TrainConfig(n_steps=1000, batch_size=32, lr=1e-3, snapshots=every(25))
        >>> cfg = attention_only(n_layers=2, d_model=64, n_heads=4, d_vocab=32, n_ctx=48)
        >>> run = train(cfg, RestartCycle(), config, out="runs/2L")
        >>> run.snapshots[-1].load()
    """
    data, folder = _corpus_of(corpus, config), Path(out)
    _require_fit(cfg, data)
    batches = Batches(data, config)
    device = config.device or str(cfg.device)
    plan = Plan(clamps)
    plan.check(cfg)
    # under ALiBi, TransformerLens keeps positions that nothing reads
    unused_parameters = cfg.positional_embedding_type == "alibi" or may_leave_unused(plan, cfg)
    processes = Processes.launched(device, unused_parameters=unused_parameters)
    processes.require_divisible(config.batch_size)
    cfg = copy.deepcopy(cfg)
    cfg.device = str(processes.device(device))
    with torch.inference_mode(False), torch.enable_grad(), writing_into(folder), ExitStack() as stack:
        model = build_model(cfg, smeared_keys=smeared_keys, seed=config.seed)
        if (features := getattr(data, "token_features", None)) is not None:
            embed_features(model, features, seed=config.seed)
        require_effect(model, plan)
        manifest, files = describe(model, data, config, plan)

        def open_folder() -> tuple[RunFolder, bool]:
            stack.enter_context(locked(folder))
            opened = RunFolder(folder, manifest, files)
            return opened, opened.run.finished

        opened, finished = processes.from_main(open_folder)
        if not finished:
            stack.enter_context(torch_threads(opened.n_threads))
            clamped = stack.enter_context(clamped_steps(model, plan))
            Training(model, config, batches, processes, opened, clamped).run(progress=progress)
    return open_run(folder)


def _corpus_of(corpus: Tensor | Corpus, config: TrainConfig) -> Corpus:
    """A corpus as it is; of a tensor, what the steps do not need (at most 1000 examples) is held out by default."""
    if not isinstance(corpus, Tensor):
        return as_corpus(corpus)
    n_held_out = config.n_held_out
    if n_held_out is None:
        n_held_out = min(MOST_HELD_OUT, max(0, len(corpus) - config.n_steps * config.batch_size))
    return TensorCorpus(corpus, n_held_out=n_held_out)


def _require_fit(cfg: HookedTransformerConfig, corpus: Corpus) -> None:
    """Refuse a corpus whose examples or tokens the model has no room for, and models that cannot be trained here."""
    if corpus.n_pos > cfg.n_ctx:
        raise InputError(
            f"the corpus has examples of {corpus.n_pos} tokens, the model a context of {cfg.n_ctx}; make n_ctx larger"
        )
    predicted: int = getattr(corpus, "d_vocab_predicted", corpus.d_vocab)
    if corpus.d_vocab > cfg.d_vocab or predicted > cfg.d_vocab_out:
        raise InputError(
            f"the corpus has a vocabulary of {corpus.d_vocab}, the model one of {cfg.d_vocab}; {predicted} ids are to "
            f"be predicted, and the model predicts {cfg.d_vocab_out}; make d_vocab or d_vocab_out larger"
        )
    features = getattr(corpus, "token_features", None)
    if features is not None and (cfg.d_vocab != corpus.d_vocab or len(features) > cfg.d_vocab):
        raise InputError(
            f"the corpus has features of {len(features)} of its {corpus.d_vocab} tokens, and the model a vocabulary of "
            f"{cfg.d_vocab}; make d_vocab {corpus.d_vocab}"
        )
    if cfg.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"dtype: expected weights in float32, got {cfg.dtype}; small updates vanish in fewer bits. "
            "TrainConfig(precision='bfloat16') computes in bfloat16 and keeps the weights in float32"
        )

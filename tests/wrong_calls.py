"""Wrong calls and the errors that they give: `python -m tests.wrong_calls` writes them to docs/wrong-calls.md.

Run in a process of its own, because the tests' run-time type checks would answer before the library does.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

LIBRARY = [
    "ih.prefix_matching_score(model, torch.tensor([1, 2, 3]))",
    "ih.prefix_matching_score(model, [[1, 2, 3]])",
    "ih.prefix_matching_score(model, torch.rand(2, 8))",
    "ih.prefix_matching_score(model, torch.arange(16).reshape(2, 8))",
    "ih.prefix_matching_score(model, torch.full((1, 8), 99))",
    "ih.prefix_matching_score(model, torch.zeros(1, 99, dtype=torch.int64))",
    "ih.prefix_matching_score(model, torch.tensor([[1, 2, 1, 2]]), has_bos=True)",
    "ih.copying_score(broken, torch.arange(8)[None])",
    "ih.repeated_random_tokens(model, length=25, repeats=4)",
    "ih.random_tokens(model, length=40)",
    "ih.text_examples(model, ['some text'], n_examples=1)",
    "ih.text_examples(with_tokenizer, ['some text'], n_examples=9)",
    "ih.text_examples(with_tokenizer, ['some text'], n_examples=1, n_pos=99)",
    "ih.previous_token_score(overflowing, torch.arange(8)[None])",
    "ih.token_losses(other_vocabulary, evals)",
    "ih.score_heads(model, evaluators=['induction'])",
    "ih.score_heads(model).top('copyng', 3)",
    "ih.score_heads(model).confidence_interval('copying', 95)",
    "ih.score_heads(model, n_examples=3).confidence_interval('copying')",
    "ih.score_heads(model, keep_examples=False).confidence_interval('copying')",
    "ih.HeadScores(ih.score_heads(model).dataset).stderr('copying')",
    "ih.null_scores(model, kind='random')",
    "ih.behaviour_table(model)",
    "ih.score_behaviours(model, behaviours=['parroting'])",
    "ih.Translation(pairs=[('one', 'un', '0-1')]).texts(with_tokenizer)",
    "ih.Translation(pairs='pairs.tsv').texts(with_tokenizer)",
    "ih.PatternMatching().texts(with_tokenizer)",
    "ih.induction_view(model, torch.arange(8), destinations=[8])",
    "ih.induction_verdict(model)",
    "ih.induction_verdict(with_tokenizer, [5, 6])",
    "ih.prefix_candidates(model, n_prefix=1)",
    "ih.words_in_other_forms(model)",
    "ih.attention_by_copy(model, torch.tensor([[1, 2, 1, 2]]))",
    "ih.copy_suppression(model, torch.arange(16).reshape(2, 8).float())",
    "ih.predictable_tokens(torch.rand(2, 8))",
    "ih.loss_split(ih.token_losses(model, evals))",
    "ih.loss_split(ih.token_losses(model, evals), {'short': torch.ones(1, 3, dtype=torch.bool)})",
    "ih.loss_spikes(ih.token_losses(model, evals))",
    "ih.generation_loops(model, torch.zeros(1, 8, dtype=torch.int64), ['L0H0'], n_new=500)",
    "ih.repetition_dominance(model, torch.arange(8)[None])",
    "ih.skip_trigrams(model, 'L9H0')",
    "ih.copy_suppression(overflowing, torch.arange(8)[None])",
    "ih.significant_heads(ih.score_heads(model).p_value('copying', null=0.0), correction='bonferroni')",
    "ih.matched_ablations(model, evals, [['L0H0', 'L0H1', 'L0H2']])",
    "ih.ablation_effects(ih.ablate_heads(model, evals), ih.token_losses(model, evals), on='before_and_after')",
    "ih.examples_needed(4.0, stderr=0.1, half_width=0.1)",
    "ih.token_losses(model, torch.zeros(2, 8, dtype=torch.int64))",
    "ih.token_losses(model, evals, keep='everything')",
    "ih.token_losses(model, evals, at_indices=(50, 500))",
    "ih.ablate_heads(model, evals, kind='partial')",
    "ih.ablate_heads(model, evals, heads='L0H0')",
    "ih.ablate_heads(model, evals, heads=['L9H0'])",
    "ih.ablate_heads(model, evals, heads=[['L0H0', 'L0H0']])",
    "ih.ablate_heads(model, evals, replace='noise')",
    "ih.ablate_heads(model, evals, context_indices=(0, 5))",
    "ih.EvalSet.from_tokens(torch.zeros(3, 1, dtype=torch.int64))",
    "ih.in_context_learning_score(ih.token_losses(model, evals))",
    "ih.in_context_learning_score(ih.token_losses(model, evals), late=3, early=3.5)",
    "ih.phase_change([0, 50, 25], [0.0, -1.0, -2.0])",
    "ih.phase_change([0, 50], [0.0, -1.0, -2.0])",
    "ih.in_context_learning_sensitivity(ih.token_losses(model, evals), late=[99])",
    "ih.loss_token_derivative(ih.token_losses(model, evals))",
    "ih.non_convex_spans(ih.token_losses(model, evals))",
    "ih.before_and_after_vector(ih.token_losses(model, evals), ih.token_losses(model, other_evals))",
    "ih.token_loss_pca([])",
    "ih.attention_only(n_layers=2, d_model=100, n_heads=8)",
    "ih.attention_only(n_layers=2, n_head=8)",
    "ih.attention_only(n_layers=0)",
    "ih.with_mlps(n_layers=1, positions='learned')",
    "ih.small_attention_only(scale='huge')",
    "ih.load_model('no/such/model')",
    "ih.load_model(model, dtype=torch.float16)",
    "ih.load_model('pythia-70m', revision='main', checkpoint=512)",
    "ih.load_model('pythia-70m', checkpoint=513)",
    "ih.load_model(folder)",
    "ih.load_model('gpt2', device='gpu')",
    "ih.load_model('gpt2', dtype='half')",
    "ih.open_run(folder)",
    "ih.Snapshot(folder)",
    "ih.TrainConfig(n_steps=0, batch_size=1, lr=1e-3)",
    "ih.TrainConfig(n_steps=5, batch_size=1, lr=-1.0)",
    "ih.every(0)",
    "ih.train(model.cfg, torch.zeros(4, 8, dtype=torch.int64), ih.TrainConfig(n_steps=5, batch_size=2, lr=1e-3), "
    "out=folder / 'run')",
    "ih.train(model.cfg, 'books.txt', ih.TrainConfig(n_steps=5, batch_size=2, lr=1e-3), out=folder / 'run')",
    "ih.tokenize_text(folder / 'missing.txt', folder / 'tokens', vocab_size=300)",
    "ih.TokenCorpus(folder, 512)",
    "ih.ModelAnalysisTable.from_runs([])",
    "ih.HeadScores.load(folder / 'missing.json')",
    "ih.induction_view(model, 'some text')",
    "ih.induction_view(model, torch.zeros(2, 8, dtype=torch.int64))",
    "ih.induction_view(model, torch.arange(32))",
    "ih.induction_view(model, torch.arange(8), heads='L1H0')",
    "ih.HeadsOnText.load(folder / 'missing.safetensors')",
    "ih.known_heads('gpt5')",
    "ih.known_heads('pythia-160m', 'step512')",
    "ih.compare_to_atlas(ih.score_heads(model))",
    "ih.composition_scores(model, 'o')",
    "ih.explain_head(model, 'L9H0')",
    "ih.match_terms(model, 'L1H0', torch.arange(8)[None])",
    "ih.path_effects(model, 'L1H0', replace='noise')",
    "ih.head_wiring(model, 'L1H0', 'L0H0')",
    "ih.memory_recall(model, 'L0H0', 'L1H0')",
    "ih.match_shares(ih.composition_scores(model).to_dataset())",
    "ih.score_agreement(ih.score_heads(model), 'copying', 'eigenvalues')",
    "ih.opaque_heads(ih.score_heads(model)['copying'], share_best=2)",
    "ih.viz.plot_head_mosaic({})",
    "ih.viz.plot_joint_scores({'2L': ih.score_heads(model)}, colour='head')",
    "ih.compare_to_atlas(ih.score_heads(model), 'gpt2')",
    "ih.clamp(model, 'L0H1').__enter__()",
    "ih.clamp(model, ih.ZeroHead('L9H1')).__enter__()",
    "ih.clamp(model, [ih.PreviousToken('L0H1'), ih.ZeroHead('L0H1')]).__enter__()",
    "ih.clamp(model, [ih.ZeroHead('L0H1'), ih.MeanHead('L0H1')]).__enter__()",
    "ih.clamp(torch.compile(model, backend='eager'), ih.ZeroHead('L0H1')).__enter__()",
    "ih.clamp_hooks(model, ih.ShiftedLayer(1), evals.tokens)",
    "ih.PreviousToken('L0H1', strength=2)",
    "ih.PreviousToken('L0H1', rows=[{'a': 1}])",
    "ih.PreviousToken('L0H1', gradient='none')",
    "ih.ZeroHead([])",
    "ih.ZeroHead(3)",
    "ih.Temperature('L1H0', 2.0)",
    "ih.Temperature('L1H0', during=5)",
    "ih.Forbid('L1H0', keys=1)",
    "ih.LabelMatch('L1H0', classes=2)",
    "ih.MeanHead('L0H1', over='given', means=0.5)",
    "ih.Preserve('pattern', layers=1)",
    "ih.FreezePattern(None, 'L0H1')",
    "ih.FreezeResid(model, 1)",
    "ih.IdealCopyLogits('L1H0', keys=2)",
    "ih.ShiftedLayer('1')",
    "ih.PrefixMatchingEvaluator(length='25')",
    "ih.PrefixMatchingEvaluator(bos=[0])",
    "ih.CopyingEvaluator(rectified=None)",
    "ih.MeanHead('L0H1', over='given')",
    "ih.During(5, 3)",
    "ih.When('loss', 'below', 2.0, release=3.0)",
    "ih.Graft(folder, till_layer=0)",
    "ih.race_conditions(['L1H0'], 'only')",
    "ih.wiring(model, evals, [['L1H0']])",
    "ih.strength_conditions(ih.PreviousToken('L0H1'), parameter='gain')",
    "ih.three_factor_losses(['d'])",
    "ih.exemplar_metrics(model, evals.tokens)",
    "ih.ExemplarLabels(n_new_label_pairs=9)",
    "ih.MarkovChains(n_states=1)",
    "ih.RepeatedPeriod(max_period=48)",
    "ih.token_texts(model, 'some text')",
    "ih.token_texts(model, evals.tokens)",
    "ih.viz.coloured_tokens(['a', 'b'], ['x', 'y'])",
    "ih.viz.coloured_tokens(['a', 'b'], torch.zeros(3))",
    "ih.viz.attention_heads(model, ['a'])",
    "ih.viz.attention_heads(torch.zeros(2, 8, 8), [' a'] * 8)",
    "ih.viz.attention_heads(torch.zeros(1, 400, 400), [' a'] * 400, heads=['L0H0'])",
    "ih.token_loss_differences(ih.token_losses(model, evals), ih.token_losses(model, evals))",
    "ih.token_loss_differences(ih.token_losses(model, evals, keep='all'))",
    "ih.viz.coloured_loss_differences(ih.token_losses(model, evals), [' a'])",
    "ih.viz.plot_loss({})",
    "ih.viz.plot_loss({'2L': ih.loss_curve(ih.token_losses(model, evals))})",
    "ih.viz.save_figure(ih.viz.plot_losses_across_context({'2L': ih.loss_by_context_index(ih.token_losses(model, "
    "evals))}), folder / 'loss.gif')",
]

COMMAND_LINE = [
    "train restart-cycle",
    "train nothing-here --out FOLDER/runs",
    "train restart-cycle --out FOLDER/runs --series large",
    "train restart-cycle --out FOLDER/runs --series smeared_keys --models plain_1L",
    "train restart-cycle --out FOLDER/runs --n-layers two",
    "train restart-cycle --out FOLDER/runs --snapshots often",
    "train restart-cycle --out FOLDER/runs --train-tokens 5",
    "train restart-cycle --out FOLDER/runs --lr fast",
    "tokens FOLDER/missing.txt --out FOLDER/tokens --vocab-size 300",
    "tokens FOLDER/text.txt --out FOLDER/tokens",
    "tokens FOLDER/text.txt --out FOLDER/tokens --vocab-size 10",
    "score FOLDER/missing",
    "score FOLDER --dtype int8",
    "score FOLDER --bos start",
    "score FOLDER --atlas gpt5",
    "table FOLDER",
    "table FOLDER/missing",
    "table",
    "demo --seeds 0,0 --out FOLDER/demo",
    "demo --workers 0 --out FOLDER/demo",
    "clamp-demo --seeds 0,0 --quick --out FOLDER/clamps",
    "measure",
]

_SETUP = """
import types, torch, tokenizers, ih_lens as ih
cfg = ih.attention_only(2, d_model=16, n_heads=4, d_vocab=32, n_ctx=16)
model, broken = ih.build_model(cfg), ih.build_model(cfg)
broken.blocks[1].attn.W_V.data[0, 0, 0] = float("nan")
overflowing = ih.build_model(cfg).to(torch.float16, print_details=False)
overflowing.blocks[0].attn.b_Q.data[1] = overflowing.blocks[0].attn.b_K.data[1] = 1e4
cfg.d_vocab_out = 20
other_vocabulary = ih.build_model(cfg)
letters = {"a": 0, **{chr(98 + place): place + 1 for place in range(24)}, " ": 25}
with_tokenizer = types.SimpleNamespace(cfg=cfg, tokenizer=tokenizers.Tokenizer(tokenizers.models.BPE(letters, [])))
evals, other_evals = (ih.EvalSet.from_tokens(torch.arange(64).reshape(4, 16) % 32, seed=seed) for seed in (0, 1))
"""


def _library_error(call: str, names: dict[str, Any]) -> tuple[str, str]:
    try:
        exec(call, names)
    except Exception as error:
        return type(error).__name__, str(error)
    return "no error", ""


def _command_error(call: str, folder: Path) -> tuple[str, str]:
    from ih_lens import cli

    sys.argv = ["ih-lens", *call.replace("FOLDER", str(folder)).split()]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as stop:
        return f"exit {stop.code or 0}", said.getvalue()
    return "exit 0", said.getvalue()


def answers() -> dict[str, tuple[str, str]]:
    """Every wrong call with the kind of its error and the message, folders written as FOLDER."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_text("some words of text\n" * 50)
        names: dict[str, Any] = {"folder": folder}
        exec(_SETUP, names)
        given = {call: _library_error(call, names) for call in LIBRARY}
        given |= {f"ih-lens {call}": _command_error(call, folder) for call in COMMAND_LINE}
        return {call: (kind, text.replace(str(folder), "FOLDER").strip()) for call, (kind, text) in given.items()}


def page(given: dict[str, tuple[str, str]]) -> str:
    """The documentation's page of them."""
    rows = [
        f"| `{call}` | {kind} | {text.replace('|', '&#124;').replace('<', '&lt;')} |".replace("\n", " ")
        for call, (kind, text) in given.items()
    ]
    head = [
        "# Wrong calls",
        "",
        "What the library and the command line answer; `tests/test_wrong_calls.py` holds it.",
        "",
    ]
    return "\n".join([*head, "| call | error | message |", "|---|---|---|", *rows, ""])


if __name__ == "__main__":
    as_json = sys.argv[1:2] == ["json"]
    found = answers()
    if as_json:
        print(json.dumps(found))
    else:
        Path("docs/wrong-calls.md").write_text(page(found), encoding="utf8")

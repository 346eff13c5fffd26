import math

import pytest

import ih_lens as ih
from ih_lens.models.series import FULL_SCALE_TRAINING, SCALES, SERIES, SMALL_TRAINING

# the paper's table: layers -> non-embedding parameters as printed, d_model, heads, d_head
FULL_SCALE = {
    4: ("13M", 512, 8, 64),
    6: ("42M", 768, 12, 64),
    10: ("200M", 1280, 20, 64),
    16: ("810M", 2048, 32, 64),
    24: ("2.7B", 3072, 48, 64),
    40: ("13B", 5120, 40, 128),
}


def _as_printed(count: int) -> str:
    """Two significant digits, as in the paper's table."""
    digits = 1 - math.floor(math.log10(count))
    rounded = round(count, digits)
    unit, name = (10**9, "B") if rounded >= 10**9 else (10**6, "M")
    return f"{rounded / unit:g}{name}"


def test_full_scale_agrees_with_the_papers_table() -> None:
    found = {
        spec.cfg.n_layers: (_as_printed(spec.cfg.n_params), spec.cfg.d_model, spec.cfg.n_heads, spec.cfg.d_head)
        for spec in ih.full_scale("paper")
    }
    assert found == FULL_SCALE


def test_full_scale_attends_locally_in_every_second_layer() -> None:
    for scale in SCALES:
        for spec in ih.full_scale(scale):
            assert spec.cfg.attn_types == [("global", "local")[i % 2] for i in range(spec.cfg.n_layers)]
            assert 8 <= spec.cfg.window_size < spec.cfg.n_ctx
    assert ih.full_scale("tiny", window_size=3)[0].cfg.window_size == 3


def test_small_models_of_the_paper() -> None:
    for specs, attn_only in [(ih.small_attention_only("paper"), True), (ih.small_with_mlps("paper"), False)]:
        assert [spec.cfg.n_layers for spec in specs] == [1, 2, 3, 4, 5, 6]
        for spec in specs:
            cfg = spec.cfg
            assert (cfg.d_model, cfg.n_heads, cfg.d_vocab, cfg.n_ctx) == (768, 12, 2**16, 8192)
            assert (cfg.attn_only, cfg.positional_embedding_type) == (attn_only, "shortformer")
            assert not spec.smeared_keys


def test_every_smeared_model_has_its_control() -> None:
    specs = ih.smeared_key_models("laptop")
    assert [(spec.cfg.n_layers, spec.smeared_keys) for spec in specs] == [(1, False), (1, True), (2, False), (2, True)]
    for control, smeared in zip(specs[::2], specs[1::2], strict=True):
        assert control.cfg.to_dict() == smeared.cfg.to_dict()


def test_the_papers_34_models() -> None:
    assert sum(len(series.build("paper")) for series in SERIES.values()) == 34
    assert [name for name, series in SERIES.items() if series.data == "second"] == [
        "small_attention_only_second_data",
        "small_with_mlps_second_data",
    ]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SERIES)
def test_names_are_unique_and_fit_for_folders(name: str, scale: str) -> None:
    names = [spec.name for spec in SERIES[name].build(scale)]
    assert len(set(names)) == len(names)
    assert all(model.replace("_", "").isalnum() for model in names)


@pytest.mark.parametrize("name", SERIES)
def test_tiny_models_can_be_built(name: str) -> None:
    spec = SERIES[name].build("tiny")[-1]
    model = ih.build_model(spec.cfg, smeared_keys=spec.smeared_keys)
    assert ih.has_smeared_keys(model) == spec.smeared_keys
    assert (model.cfg.d_vocab, model.cfg.n_ctx) == (32, 48)


def test_training_as_the_paper_gives_it() -> None:
    assert SMALL_TRAINING.n_steps * SMALL_TRAINING.tokens_per_step == pytest.approx(1e10, rel=0.05)
    assert len(SMALL_TRAINING.snapshot_steps) == 200
    assert set(FULL_SCALE_TRAINING.snapshot_steps) == {2**power for power in range(5, 18)}
    assert 2**11 * FULL_SCALE_TRAINING.tokens_per_step == pytest.approx(2.15e9, rel=0.002)


def test_unknown_scale() -> None:
    unchecked = getattr(ih.small_with_mlps, "__wrapped__", ih.small_with_mlps)
    with pytest.raises(ih.InputError, match="scale: expected one of paper, gpu, laptop, tiny; got 'huge'"):
        unchecked("huge")

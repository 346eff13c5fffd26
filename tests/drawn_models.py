"""Small models drawn at random by hypothesis over every axis of architecture that the fast paths claim to cover.

A drawn model is a recipe: it prints as one, so a failing test names the architecture, and it is built by the public
constructors. The draws are the same in every run; `IH_LENS_DRAWS=20 pytest ...` makes twenty times as many, anew.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, Phase, settings
from transformer_lens import HookedTransformer
from transformer_lens.components.abstract_attention import AbstractAttention

import ih_lens as ih

Drawn = TypeVar("Drawn")
Test = TypeVar("Test", bound=Callable[..., Any])

POSITIONS = ("standard", "shortformer", "rotary", "alibi")
NORMALIZATIONS = ("LN", "LNPre", "RMS", "RMSPre", None)
FORMS = ("attention_only", "mlp", "gated", "parallel", "parallel_gated")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2", "silu", "solu", "xielu")

_TIMES = int(os.environ.get("IH_LENS_DRAWS", "0"))


def draws(n: int) -> Callable[[Test], Test]:
    """Run a test on `n` draws, which are the same in every run unless the environment asks for more."""
    slow_is_fine = [HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = settings(
        max_examples=n * max(_TIMES, 1),
        derandomize=_TIMES == 0,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=slow_is_fine,
    )
    return lambda test: chosen(test)


@dataclass(frozen=True)
class DrawnModel:
    """A recipe for one model.

    Attributes:
        sizes: arguments of `attention_only` or `with_mlps`, whichever fits.
        positions: kind of positions.
        smeared_keys: as in `build_model`.
        dtype: of all weights.
        seed: of all weights; biases, gains and smearing are not those of a new model but random too.
    """

    sizes: dict[str, Any]
    positions: str
    smeared_keys: bool
    dtype: torch.dtype
    seed: int

    def build(self, **changes: Any) -> HookedTransformer:
        """The model, with changes of its configuration if there are any."""
        make: Any = ih.with_mlps if "d_mlp" in self.sizes else ih.attention_only
        known = "standard" if self.positions == "alibi" else self.positions
        cfg = make(**{**self.sizes, "dtype": self.dtype, **changes}, positions=known)
        cfg.positional_embedding_type = self.positions
        model = ih.build_model(cfg, smeared_keys=self.smeared_keys, seed=self.seed)
        _fill(model, self.seed)
        if self.positions == "alibi":
            _make_alibi_exact(model)
        return model.eval()


@st.composite
def drawn_models(
    draw: st.DrawFn,
    *,
    positions: Sequence[str] = POSITIONS,
    forms: Sequence[str] = FORMS,
    dtypes: Sequence[torch.dtype] = (torch.float64,),
    n_ctx: tuple[int, int] = (2, 30),
    d_head: tuple[int, int] = (1, 8),
    max_layers: int = 4,
    same_vocabularies: bool = False,
    fixed: dict[str, Any] | None = None,
) -> DrawnModel:
    """Any small model that the fast paths cover; `fixed` are sizes that are not drawn."""
    kind = draw(st.sampled_from(positions))
    n_heads = draw(st.integers(1, 4))
    width = draw(st.integers(*d_head))
    width += width % 2 if kind == "rotary" else 0
    d_vocab = draw(st.integers(5, 40))
    sizes: dict[str, Any] = {
        "n_layers": draw(st.integers(1, max_layers)),
        "n_heads": n_heads,
        "d_head": width,
        "d_model": draw(st.integers(4, 24)),
        "d_vocab": d_vocab,
        "n_ctx": draw(st.integers(*n_ctx)),
        "normalization_type": draw(st.sampled_from(NORMALIZATIONS)),
        "eps": draw(st.sampled_from([1e-5, 1e-2])),
    }
    sizes |= draw(_layers(**{name: sizes[name] for name in ("n_layers", "n_heads", "d_head", "n_ctx")}))
    sizes |= draw(_mlp(forms))
    if kind == "rotary":
        sizes |= draw(_rotation(width, has_local=sizes.get("use_local_attn", False)))
    if sizes["normalization_type"] in ("LN", "LNPre") and draw(_seldom()):
        sizes["final_rms"] = True
    if not same_vocabularies and draw(_seldom()):
        sizes["d_vocab_out"] = d_vocab + draw(st.integers(1, 6))
    smeared_keys, dtype = draw(_often()), draw(st.sampled_from(dtypes))
    return DrawnModel(sizes | (fixed or {}), kind, smeared_keys, dtype, draw(st.integers(0, 1000)))


@st.composite
def _layers(draw: st.DrawFn, n_layers: int, n_heads: int, d_head: int, n_ctx: int) -> dict[str, Any]:
    """Grouped queries, local layers and the scale of scores."""
    changes: dict[str, Any] = {}
    if draw(_often()):
        changes["n_key_value_heads"] = draw(st.sampled_from([n for n in range(1, n_heads + 1) if n_heads % n == 0]))
    if draw(_often()):
        kinds = st.lists(st.sampled_from(["local", "global"]), min_size=n_layers, max_size=n_layers)
        window = draw(st.integers(1, max(2, n_ctx // 2)))
        changes |= {"use_local_attn": True, "attn_types": draw(kinds), "window_size": window}
    scale = draw(st.sampled_from(["usual", "usual", "none", "own", "by_layer"]))
    if scale == "none":
        changes["use_attn_scale"] = False
    if scale == "own":
        changes["attn_scale"] = d_head**0.5 * 1.7
    if scale == "by_layer":
        changes["scale_attn_by_inverse_layer_idx"] = True
    return changes


@st.composite
def _mlp(draw: st.DrawFn, forms: Sequence[str]) -> dict[str, Any]:
    form = draw(st.sampled_from(forms))
    if form == "attention_only":
        return {}
    changes = {"d_mlp": draw(st.integers(1, 30)), "act_fn": draw(st.sampled_from(ACTIVATIONS))}
    return changes | {"gated_mlp": form.endswith("gated"), "parallel_attn_mlp": form.startswith("parallel")}


@st.composite
def _rotation(draw: st.DrawFn, d_head: int, has_local: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "rotary_dim": 2 * draw(st.integers(1, d_head // 2)),
        "rotary_adjacent_pairs": draw(_often()),
        "rotary_base": draw(st.sampled_from([10000, 100])),
    }
    if has_local and draw(_often()):
        changes["rotary_base_local"] = 50
    return changes


def _often() -> st.SearchStrategy[bool]:
    return st.booleans()


def _seldom() -> st.SearchStrategy[bool]:
    return st.sampled_from([False, False, False, True])


def _fill(model: HookedTransformer, seed: int) -> None:
    """Random values of moderate size everywhere, so that every parameter matters and no softmax saturates."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        leaf = name.rsplit(".", 1)[-1].lstrip("_")
        if leaf == "w":  # gains of norms
            noise = 1 + 0.3 * noise
        elif leaf.startswith("b"):
            noise = 0.3 * noise
        elif leaf.startswith("alpha_"):  # of an activation function
            noise = parameter.detach() + 0.2 * noise
        elif leaf.startswith("W_") and leaf not in ("W_E", "W_pos"):
            n_added = parameter[:, :, 0].numel() if leaf == "W_O" else parameter.shape[-2]
            noise = noise / n_added**0.5
            if model.cfg.normalization_type is None:
                noise = 0.6 * noise
        parameter.data.copy_(noise)


def _make_alibi_exact(model: HookedTransformer) -> None:
    """Give every layer ALiBi's table in the model's dtype: TransformerLens makes one in float32, in float64 too."""
    slopes = AbstractAttention.create_alibi_multipliers(model.cfg.n_heads).to(model.cfg.dtype)
    places = torch.arange(model.cfg.n_ctx)
    distances = (places[:, None] - places).clamp(min=0)
    for block in model.blocks:
        block.attn.alibi = -slopes[:, None, None] * distances


@st.composite
def drawn_tokens(
    draw: st.DrawFn, model: DrawnModel, *, n_examples: tuple[int, int] = (1, 4), min_length: int = 2, longest: int = 14
) -> torch.Tensor:
    """Ids [example, pos] that fit the model, drawn evenly, so that many occur more than once."""
    n_pos = draw(st.integers(min_length, min(longest, model.sizes["n_ctx"])))
    shape = (draw(st.integers(*n_examples)), n_pos)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return torch.randint(0, model.sizes["d_vocab"], shape, generator=generator)

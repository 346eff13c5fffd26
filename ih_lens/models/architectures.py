"""Which Hugging Face architectures TransformerLens can turn into a `HookedTransformer`, and why others are refused."""

from importlib.metadata import version
from typing import Any

from transformer_lens.utilities.architectures import classify_architecture
from transformer_lens.utilities.quantization import quantization_method, unreadable_weight_reason
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ih_lens.errors import CapabilityError
from ih_lens.models.hooked_transformer import get_official_model_name

CONVERTED = (
    "ApertusForCausalLM",
    "BloomForCausalLM",
    "GPT2LMHeadModel",
    "GPTJForCausalLM",
    "GPTNeoForCausalLM",
    "GPTNeoXForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "GemmaForCausalLM",
    "GptOssForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "OPTForCausalLM",
    "Olmo2ForCausalLM",
    "Olmo3ForCausalLM",
    "OlmoForCausalLM",
    "OlmoeForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
"""Classes of `transformers` that TransformerLens converts the weights of."""
_LENS = f"TransformerLens {version('transformer-lens')}"


def official_name(name: str) -> str | None:
    """TransformerLens's full name for a name or alias; None for what it does not know.

    Examples:
        >>> official_name("pythia-70m")
        'EleutherAI/pythia-70m'
    """
    try:
        return get_official_model_name(name)
    except ValueError:
        return None


def language_model_class(config: Any) -> str | None:
    """The class that a saved configuration is loaded into as a decoder-only language model; None if there is none."""
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)


def require_decoder(architectures: list[str], config: Any, name: str) -> None:
    """Refuse encoders and encoder-decoders by what their configuration says.

    Raises:
        CapabilityError: for them, and for models that also read images or sound.
    """
    kinds = {classify_architecture(architecture) for architecture in architectures}
    if getattr(config, "is_encoder_decoder", False) or kinds & {"masked_lm", "seq2seq"} or _is_encoder(config):
        raise CapabilityError(
            f"{name} ({', '.join(architectures) or config.model_type}) is an encoder or encoder-decoder: it does not "
            "predict each token from the tokens before it, so induction and in-context learning are not defined for "
            "it; use a decoder-only language model"
        )
    if kinds - {"causal_lm"} or language_model_class(config) is None:
        raise CapabilityError(
            f"{name} ({', '.join(architectures) or config.model_type}) is no decoder-only language model of text; "
            f"{_LENS} converts {_supported()}"
        )


def require_convertible(architecture: str, config: Any, name: str) -> None:
    """Refuse architectures that TransformerLens has no conversion for.

    Raises:
        CapabilityError: naming those it has one for, or the variant that it converts wrongly.
    """
    if architecture in CONVERTED:
        _require_known_variant(config, name)
        return
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        raise CapabilityError(
            f"{name} is a {architecture}, a model without a language-model head, so it gives no logits; load it with "
            "AutoModelForCausalLM"
        )
    raise CapabilityError(
        f"{name} is a {architecture}, which {_LENS} cannot convert; it converts {_supported()}. Wrap the model in a "
        "TransformerBridge and measure that"
    )


def _require_known_variant(config: Any, name: str) -> None:
    if getattr(config, "do_layer_norm_before", True) is False:
        raise CapabilityError(
            f"{name} normalises after each sublayer (do_layer_norm_before=False, as facebook/opt-350m), which {_LENS} "
            "cannot convert; take another size of OPT"
        )
    if getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size:
        raise CapabilityError(f"{name} projects its embeddings to another width, which {_LENS} cannot convert")


def require_plain_weights(model: Any, name: str) -> None:
    """Refuse models whose weights are packed or elsewhere, because conversions would read wrong numbers.

    Raises:
        CapabilityError: naming the first such weight.
    """
    for parameter, weight in model.named_parameters():
        reason = unreadable_weight_reason(weight)
        if reason is not None:
            raise CapabilityError(
                f"{name}: {parameter} cannot be read because {reason}; load the model without quantization and "
                "without offloading (dtype=torch.bfloat16 halves its memory)"
            )


def require_not_quantized(config: Any, name: str) -> None:
    """Refuse models that were saved quantized, before their weights are read.

    Raises:
        CapabilityError: with what to do.
    """
    method = quantization_method(config)
    if method is not None:
        raise CapabilityError(
            f"{name} is quantized ({method}), and conversions read packed weights wrongly; load the model as it was "
            "before quantization, or dequantize it with transformers and pass the model"
        )


def _is_encoder(config: Any) -> bool:
    """Whether the type of model has no decoder in `transformers` unless its configuration asks for one."""
    encoders = {"albert", "bert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "roberta"}
    return config.model_type in encoders | {"xlm-roberta"} and not getattr(config, "is_decoder", False)


def _supported() -> str:
    names = sorted(CONVERTED, key=str.lower)
    return ", ".join(name.removesuffix("ForCausalLM").removesuffix("LMHeadModel") for name in names)

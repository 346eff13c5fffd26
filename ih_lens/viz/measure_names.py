"""What measures are called on axes and in titles."""

import json

import xarray as xr

_NAMES = {
    "anti_induction": "anti-induction",
    "attention_to_predicted": "attention to what is predicted",
    "best_offset_attention": "attention at the best offset",
    "four_token_prefix": "prefix of four tokens",
    "ov_suppression": "OV suppression",
    "three_token_prefix": "prefix of three tokens",
    "two_token_prefix": "prefix of two tokens",
    "ov_copying_eigenvalues": "OV copying eigenvalues",
    "previous_token": "attention to the previous token",
    "qk_eigenvalue_trace": "trace of QK eigenvalues",
    "k_composition": "K-composition",
    "q_composition": "Q-composition",
    "v_composition": "V-composition",
}


def measure_name(name: str) -> str:
    """A measure in words: "prefix_matching" becomes "prefix matching"."""
    return _NAMES.get(name, name.replace("_", " "))


def measure_heading(name: str) -> str:
    """A measure at the beginning of a title."""
    words = measure_name(name)
    return words[:1].upper() + words[1:]


def measure_unit(values: xr.DataArray) -> str:
    """The unit that a measure says it has, or its range, or "no unit"."""
    if "unit" in values.attrs:
        return str(values.attrs["unit"])
    if "range" in values.attrs:
        low, high = json.loads(values.attrs["range"])
        return f"{low:g} to {high:g}"
    return "no unit"


def measure_title(values: xr.DataArray) -> str:
    """Title of an axis: name and unit."""
    return f"{measure_name(str(values.name))} ({measure_unit(values)})"

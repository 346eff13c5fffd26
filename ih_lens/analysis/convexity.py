"""Where a loss curve is not convex: the bump that the phase change leaves on it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ih_lens.analysis.loss_curves import loss_curve
from ih_lens.errors import InputError
from ih_lens.results import TokenLosses
from ih_lens.validate import one_of


@dataclass(frozen=True)
class NonConvexSpan:
    """A part of a loss curve that rises above the straight line between its ends.

    Attributes:
        start, end: tokens elapsed at the ends of the line, which touches the curve there and nowhere crosses it.
        top: tokens elapsed at the snapshot that lies highest above the line.
        height: how high, in nats.
        stderr: standard error of the height over examples, paired.
        start_loss, end_loss: mean loss at the ends, in nats.
        per: on which axis the line is straight, "tokens" or "log_tokens".
    """

    start: float
    end: float
    top: float
    height: float
    stderr: float
    start_loss: float
    end_loss: float
    per: str


def non_convex_spans(
    losses: TokenLosses, *, per: str = "tokens", min_stderrs: int | float = 5.0, min_share: int | float = 0.003
) -> tuple[NonConvexSpan, ...]:
    """Find where the loss over training is not convex: where it does not flatten steadily.

    A curve is convex if it nowhere lies above a straight line between two of its points. The lower convex hull of the
    snapshots' mean random-token losses is taken; each of its edges that spans snapshots is a candidate, and the
    snapshot highest above it gives its height: half the (negative) second difference of the three points, weighted for
    uneven spacing. It counts if the height is at least `min_stderrs` of its standard errors, from the same examples at
    the three snapshots, and at least `min_share` of the whole fall of the loss.

    Args:
        losses: stacked over snapshots, of two examples or more.
        per: "tokens" as in the paper's figure of loss curves, or "log_tokens", on which a curve of another shape is
            convex: the flat beginning of training, for example, is then found too. Without the snapshot at 0 tokens.
        min_stderrs: smallest height in standard errors; more than one would ask of a single number, because it is the
            largest of as many as there are triples of snapshots.
        min_share: smallest height as a share of the highest mean loss less the lowest.

    Returns:
        The spans in the order of training; none for a convex curve.

    Raises:
        InputError: if the losses are not [snapshot, example], of one example, not finite, or not ascending in tokens.

    Examples:
        >>> [(span.start, span.end) for span in non_convex_spans(losses)]
        [(2.4e9, 5.1e9)]

    The paper calls the phase change "the only place in training where the loss is not convex".
    """
    one_of("per", per, ("tokens", "log_tokens"))
    values, tokens = _checked(losses)
    if per == "log_tokens":
        values, tokens = values[tokens > 0], tokens[tokens > 0]
    places = np.log(tokens) if per == "log_tokens" else tokens
    means = values.mean(axis=1)
    hull = _lower_hull(places, means)
    spans: list[NonConvexSpan] = []
    for start, end in pairwise(hull):
        if end - start < 2:
            continue
        weights = (places[start : end + 1] - places[start]) / (places[end] - places[start])
        above = means[start : end + 1] - (1 - weights) * means[start] - weights * means[end]
        top = int(above.argmax())
        heights = values[start + top] - (1 - weights[top]) * values[start] - weights[top] * values[end]
        height, stderr = float(above[top]), float(heights.std(ddof=1) / np.sqrt(len(heights)))
        if height >= min_stderrs * stderr and height >= min_share * float(np.ptp(means)):
            where = (float(tokens[start]), float(tokens[end]), float(tokens[start + top]))
            spans.append(NonConvexSpan(*where, height, stderr, float(means[start]), float(means[end]), per))
    return tuple(spans)


def _checked(losses: TokenLosses) -> tuple[Float[np.ndarray, "snapshot example"], Float[np.ndarray, "snapshot"]]:
    """Each example's losses over training, and the tokens elapsed."""
    curve = loss_curve(losses)
    if curve.dims != ("snapshot",) or losses.random_token.sizes["example"] < 2:
        raise InputError(
            f"expected losses of at least two examples, stacked over snapshots, got {dict(losses.random_token.sizes)}; "
            "join the snapshots' results with stack_snapshots"
        )
    values = losses.random_token.transpose("snapshot", "example").to_numpy().astype(np.float64)
    tokens = curve["tokens_elapsed"].to_numpy().astype(np.float64)
    if not np.isfinite(values).all() or (np.diff(tokens) <= 0).any():
        raise InputError("expected finite losses of snapshots in the order of training; leave out what diverged")
    return values, tokens


def _lower_hull(places: Float[np.ndarray, "point"], values: Float[np.ndarray, "point"]) -> list[int]:
    """Indices of the points that no line between two others runs below, from the first to the last."""
    hull: list[int] = []
    for point in range(len(places)):
        while len(hull) >= 2:
            first, second = hull[-2], hull[-1]
            ahead = (values[second] - values[first]) * (places[point] - places[first])
            if ahead < (values[point] - values[first]) * (places[second] - places[first]):
                break
            hull.pop()
        hull.append(point)
    return hull

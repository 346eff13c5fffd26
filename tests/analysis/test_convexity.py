import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_losses, stacked

HARD = np.random.default_rng(0).normal(0, 1, (20, 11))
"""How hard each token is, at every snapshot."""


def training(means, noise: float = 0.001) -> ih.TokenLosses:
    """Snapshots every 1,000 tokens with these mean losses."""
    generator = np.random.default_rng(1)
    centred = [generator.normal(0, noise, HARD.shape) for _ in means]
    return stacked(*(losses_of(mean + HARD + wobble) for mean, wobble in zip(means, centred, strict=True)))


def convex(n: int = 40) -> np.ndarray:
    return 3 + 4 * np.exp(-np.arange(n) / 8)


def with_bump(n: int = 40) -> np.ndarray:
    return convex(n) - 0.8 / (1 + np.exp(-(np.arange(n) - 22) / 1.2))


def test_a_convex_curve_has_no_bump():
    assert ih.non_convex_spans(training(convex())) == ()
    assert ih.non_convex_spans(training(np.linspace(5, 3, 9))) == ()


def test_a_bump_is_found_with_its_ends_and_its_height():
    losses = training(with_bump())
    (span,) = ih.non_convex_spans(losses)
    curve = ih.loss_curve(losses).to_numpy()
    start, end, top = (int(tokens / 1000) for tokens in (span.start, span.end, span.top))
    assert start < 20 < 24 <= end < 32
    line = np.interp(np.arange(40), [start, end], curve[[start, end]])
    above = (curve - line)[start : end + 1]
    assert top == start + int(above.argmax())
    assert span.height == pytest.approx(above.max())
    assert (span.start_loss, span.end_loss) == pytest.approx((curve[start], curve[end]))
    slope = (curve[end] - curve[start]) / (end - start)
    assert (curve >= curve[start] + slope * (np.arange(40) - start) - 1e-12).all()  # a tangent: nothing lies below it


def test_the_standard_error_is_that_of_the_same_examples_at_three_snapshots():
    losses = training(with_bump(), noise=0.05)
    (span,) = ih.non_convex_spans(losses)
    start, end, top = (int(tokens / 1000) for tokens in (span.start, span.end, span.top))
    each = losses.random_token.to_numpy()
    share = (top - start) / (end - start)
    heights = each[top] - (1 - share) * each[start] - share * each[end]
    assert span.height == pytest.approx(heights.mean())
    assert span.stderr == pytest.approx(heights.std(ddof=1) / np.sqrt(20))
    assert span.stderr < float(ih.loss_curve(losses).stderr[top]) / 3


def test_noise_is_no_bump_unless_one_asks_for_it():
    losses = training(convex(), noise=0.2)
    assert ih.non_convex_spans(losses) == ()
    spans = ih.non_convex_spans(losses, min_stderrs=0, min_share=0)
    assert spans
    assert ih.non_convex_spans(losses, min_stderrs=0, min_share=0.5) == ()
    assert [span.start for span in spans] == sorted(span.start for span in spans)


def test_in_the_logarithm_of_tokens_the_flat_beginning_is_not_convex():
    flat = 3 + 4 / (1 + np.arange(40) / 20) ** 2
    assert ih.non_convex_spans(training(flat)) == ()
    (span,) = ih.non_convex_spans(training(flat), per="log_tokens")
    assert span.start == 1000


def test_spans_agree_with_every_triple_of_points():
    """Slow twin: a point lies above the hull by the largest height over any line between two others."""
    generator = np.random.default_rng(3)
    for _ in range(5):
        means = generator.normal(size=12).cumsum()
        losses = training(means, noise=0)
        curve = ih.loss_curve(losses).to_numpy()
        spans = ih.non_convex_spans(losses, min_stderrs=0, min_share=0)
        heights = {span.top: span.height for span in spans}
        for i in range(12):
            highest = max(
                (curve[i] - np.interp(i, [a, b], curve[[a, b]]) for a in range(i) for b in range(i + 1, 12)), default=0
            )
            inside = [span for span in spans if span.start < 1000 * i < span.end]
            if highest > 1e-9:
                assert inside
                assert highest <= inside[0].height + 1e-9
                if inside[0].top == 1000 * i:
                    assert heights[1000 * i] == pytest.approx(highest)
            else:
                assert not inside


def test_wrong_input():
    with pytest.raises(ih.InputError, match="stacked over snapshots"):
        ih.non_convex_spans(random_losses(0))
    with pytest.raises(ih.InputError, match="at least two examples"):
        ih.non_convex_spans(stacked(random_losses(0, n_examples=1), random_losses(1, n_examples=1)))
    with pytest.raises(ih.InputError, match="per: expected one of tokens, log_tokens"):
        ih.non_convex_spans(training(convex()), per="step")
    with pytest.raises(ih.InputError, match="finite losses"):
        ih.non_convex_spans(training([3.0, np.nan, 2.0]))


def test_difference_of_losses_is_paired():
    first, second = training(with_bump(), noise=0.01), training(convex(), noise=0.01)
    difference = ih.loss_difference(first, second)
    each = first.random_token.to_numpy() - second.random_token.to_numpy()
    np.testing.assert_allclose(difference, each.mean(axis=1))
    np.testing.assert_allclose(difference.stderr, each.std(axis=1, ddof=1) / np.sqrt(20))
    assert float(difference.stderr.max()) < 0.1 * float(ih.loss_curve(first).stderr.min())
    with pytest.raises(ih.FingerprintError):
        ih.loss_difference(random_losses(0), random_losses(0, fingerprint="other"))

import plotly.graph_objects as go
import pytest

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from tests.viz.made_up import TOKENS, bands_of, heads, notes_of, over_training, traces_of

SERIES = {"1L": over_training(), "2L": None, "3L": over_training(seed=1)}
MAPS = {
    name: None if values is None else over_training(4, dims=("context_index",), context_index=[1, 2, 5, 9])
    for name, values in SERIES.items()
}
HEADS = {name: None if values is None else heads(2, 3) for name, values in SERIES.items()}
ROWS = {
    "loss": lambda **settings: viz.plot_loss(SERIES, **settings),
    "score": lambda **settings: viz.plot_in_context_learning(SERIES, **settings),
    "map": lambda **settings: viz.plot_loss_by_context_index(MAPS, **settings),
    "derivative": lambda **settings: viz.plot_loss_derivative(MAPS, **settings),
    "prefix matching": lambda **settings: viz.plot_prefix_matching(HEADS, **settings),
    "trace": lambda **settings: viz.plot_qk_eigenvalue_trace(HEADS, **settings),
    "before and after": lambda **settings: viz.plot_before_and_after(HEADS, {}, **settings),
    "attribution": lambda **settings: viz.plot_in_context_learning_attribution(HEADS, {}, **settings),
}
any_row = pytest.mark.parametrize("draw", ROWS.values(), ids=ROWS)


@any_row
def test_a_panel_per_model_with_shared_axes(draw):
    figure = draw()
    assert isinstance(figure, go.Figure)
    assert notes_of(figure)[:3] == ["1L", "2L", "3L"]
    for column in (1, 3):
        assert traces_of(figure, column)
    assert traces_of(figure, 2) == []
    assert figure.layout.xaxis3.matches == "x"
    assert figure.layout.yaxis3.matches == "y"
    figure.to_json()


@any_row
def test_axes_have_titles_with_units(draw):
    figure = draw()
    assert figure.layout.xaxis.title.text == "tokens elapsed"
    assert figure.layout.xaxis3.title.text == "tokens elapsed"
    assert "(" in figure.layout.yaxis.title.text
    assert figure.layout.title.text


@any_row
def test_a_model_that_was_not_measured_is_marked(draw):
    figure = draw()
    note = next(annotation for annotation in figure.layout.annotations if annotation.text == "not measured")
    assert (note.xref, note.yref) == ("x2 domain", "y2 domain")
    assert notes_of(figure).count("not measured") == 1


@any_row
def test_phase_changes_are_marked_in_tokens(draw):
    figure = draw(phase_changes={"1L": None, "3L": (200, 400)})
    assert bands_of(figure) == {3: (200, 400)}
    shape = next(shape for shape in figure.layout.shapes if shape.name == "phase change")
    assert style.PHASE_CHANGE in (shape.fillcolor, shape.line.color)
    assert (shape.y0, shape.y1, shape.yref) == (0, 1, "y3 domain")
    assert [trace.name for trace in figure.data].count("phase change") == 1
    assert "phase change" not in [trace.name for trace in draw().data]
    assert bands_of(draw(phase_changes={"2L": (200, 400)})) == {}


@any_row
def test_a_logarithmic_axis_leaves_the_untrained_snapshot_out_and_says_so(draw):
    figure = draw(log_tokens=True, phase_changes={"1L": (0, 200), "3L": (200, 400)})
    assert figure.layout.xaxis.type == "log"
    for trace in traces_of(figure, 1):
        assert min(trace.x) == 100
    assert bands_of(figure) == {1: (100, 200), 3: (200, 400)}
    assert any("0 tokens" in note for note in notes_of(figure))
    linear = draw()
    assert linear.layout.xaxis.type != "log"
    assert not any("0 tokens" in note for note in notes_of(linear))
    for trace in traces_of(linear, 1):
        assert min(trace.x) == 0


def test_columns_stand_below_each_other_in_all_rows():
    sizes = {
        (figure.layout.width, figure.layout.margin.l, figure.layout.margin.r) for figure in (d() for d in ROWS.values())
    }
    assert len(sizes) == 1


def test_more_models_make_a_wider_figure():
    wide = viz.plot_loss({f"model {n}": over_training() for n in range(12)})
    assert wide.layout.width == 12 * 170 + style.LEFT + style.RIGHT
    assert viz.plot_loss({"2L": over_training()}).layout.width == 430 + style.LEFT + style.RIGHT


def test_wrong_input():
    with pytest.raises(ih.InputError, match="at least one model to draw"):
        viz.plot_loss({})
    with pytest.raises(ih.InputError, match="phase changes of 4L, but the models are 1L, 2L, 3L"):
        viz.plot_loss(SERIES, phase_changes={"4L": (0, 1)})
    with pytest.raises(ih.InputError, match="stack_snapshots first"):
        viz.plot_loss({"1L": over_training().isel(snapshot=0)})
    with pytest.raises(ih.InputError, match="tokens_elapsed"):
        viz.plot_loss({"1L": over_training().drop_vars("tokens_elapsed")})


def test_nothing_but_the_results_is_drawn():
    figure = viz.plot_loss({"1L": over_training()})
    (line,) = traces_of(figure, 1)
    assert line.x.tolist() == TOKENS.tolist()
    assert line.y.tolist() == over_training().to_numpy().tolist()

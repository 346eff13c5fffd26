"""The code of docs/clamping.md runs from top to bottom, with shorter trainings."""

from collections.abc import Iterator

import pytest
import torch

import ih_lens as ih
from tests.clamping.twins import pattern_under
from tests.docs_code import run_page
from tests.docs_names import Prepared

PAGE = "docs/clamping.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        yield run_page(PAGE, folder, Prepared(folder), patch)  # runs are read from where they lie


def test_all_experiments_gave_something(names: dict) -> None:
    assert names["written"].shape == (2, 12)
    assert names["released"] is not names["clamped"]
    assert len(names["times"]) == 4 * 2
    assert set(names["table"]["condition"]) == set(names["chosen"])
    assert [len(names[found]) for found in ("alone", "one_less", "one_more")] == [5, 5, 4]
    assert set(names["costs"]["heads"]) == {"L0H0", "L0H1, L0H2, L0H3"}
    assert len(names["perfected"]) == 2 * 3
    assert names["exact"]["recovered"][0] == 1
    assert len(names["by_strength"]) == 3
    assert list(names["grafted"].runs) == ["free", "same seed"]
    assert names["metrics"]["loss"] > 0
    assert names["shorter"].iloc[-1] < names["plateau"].iloc[-1]


def test_the_plan_was_held_until_its_step(names: dict) -> None:
    run = names["run"]
    assert ih.Plan.from_json(run.manifest["clamps"]) == names["plan"]
    before, after = (run.snapshots[place].load() for place in (0, -1))
    assert torch.equal(before.W_Q[0, 0], after.W_Q[0, 0])
    assert not torch.equal(before.W_Q[0, 1], after.W_Q[0, 1])


def test_the_clamps_of_the_guide_hold_what_they_say(names: dict) -> None:
    model, tokens = names["model"], names["evals"].tokens[:3]
    natural = pattern_under(model, [], tokens)
    held = pattern_under(model, [names["LookBack"]("L0H1", distance=3, rows="even")], tokens)
    for query in range(tokens.shape[1]):
        expected = natural[:, 1, query]
        if query % 2 == 0 and query >= 3:
            expected = torch.nn.functional.one_hot(torch.tensor(query - 3), tokens.shape[1]).float().expand(3, -1)
        torch.testing.assert_close(held[:, 1, query], expected)
    with ih.clamp(model, names["NoPositions"](strength=0.5)):
        _, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(cache["hook_pos_embed"], 0.5 * model.W_pos[: tokens.shape[1]].expand(3, -1, -1))
    plan = ih.Plan(names["LookBack"]("L0H1", distance=3))
    assert str(plan) == "LookBack(heads=['L0H1'], distance=3)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ih.CLAMPS, "LookBack", names["LookBack"])
        assert ih.Plan.from_json(plan.to_json()) == plan
    rotary = ih.build_model(ih.attention_only(1, d_model=16, n_heads=2, d_vocab=9, n_ctx=9, positions="rotary"))
    with pytest.raises(ih.CapabilityError, match="has no hook_pos_embed"), ih.clamp(rotary, names["NoPositions"]()):
        pass

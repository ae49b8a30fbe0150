"""Which cells a page folds: those that only draw, and no other."""

import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import fold  # noqa: E402

DRAWING = """figure, axes = plot.panel("a", "b", "c")
axes.plot(values)
axes.set_yscale("log")
axes.legend()
plot.show(figure, caption="What to see.", alt="What is drawn.")"""
FUNCTION = """def draw(rate):
    figure, axes = plot.panel("a", "b", "c")
    axes.plot(losses[rate])
    axes.legend()
    return plot.show(figure, caption="x", alt="y")"""


def folded(*sources, tags=()):
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}) for source in sources]
    return fold.folded(cells)


def test_a_cell_that_only_draws_is_folded():
    assert folded(DRAWING) == {0}
    assert folded(FUNCTION, "explore.sliders(draw, rate=[1, 2])") == {0}


@pytest.mark.parametrize(
    "line",
    [
        "assert len(values) == 3",
        "history = train.fit(model, images, 8, 0.02)",
        "norms = probe.gradient_norms(model, images, labels)",
        "model = resnet.cifar_plain(20)",
        "layer = nn.Linear(2, 2)",
        "import math",
    ],
)
def test_what_there_is_to_learn_stays_open(line):
    assert folded(f"{line}\n{DRAWING}") == set()


def test_a_cell_that_makes_what_is_used_in_plain_sight_stays_open():
    assert folded(f"values = [1, 2]\n{DRAWING}", "print(values)") == set()
    assert folded(f"values = [1, 2]\n{DRAWING}", "values = [3]\nprint(values)") == {0}
    assert folded(f"values = [1, 2]\n{DRAWING}", DRAWING) == {0, 1}


def test_short_cells_exercises_and_marked_ones_stay_open():
    assert folded('plot.show(figure, caption="x", alt="y")') == set()
    assert folded(DRAWING, tags=["exercise"]) == folded(DRAWING, tags=["keep-open"]) == set()
    assert folded("%matplotlib inline\n" + DRAWING) == set()

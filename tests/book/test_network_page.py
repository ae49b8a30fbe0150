"""The network that runs in the built pages: chapter 09, and small on the first page."""

from pathlib import Path

import pytest
import torch

from resnet_course.reproduce import recorded
from resnet_course.teaching import network

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = ["book/09_why_it_works", "book/intro"]
PRECISION = 1e-4  # as in tests/teaching/test_network.py
pytestmark = [
    pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no built book: `make book`"),
    pytest.mark.parametrize("name", PAGES),
]
RUN = """([name, images, off]) => {
  const element = document.querySelector('.course-network');
  element.network = name;
  return images.map(pixels => element.run(pixels, off));
}"""


@pytest.fixture
def opened(visit, name):
    """The page, after its network has started; everything it does later, it does offline."""
    page, _, messages = visit(name)
    page.wait_for_selector(".course-network[data-started]")
    page.context.set_offline(True)
    yield page
    assert messages == []


def sentence(page):
    return page.locator(".course-network [role=status]").inner_text()


def test_one_output_and_it_has_started(opened):
    element = opened.locator(".course-network")
    assert element.count() == 1 and element.locator("[role=gridcell]").count() == 64
    assert opened.locator(".cell_output:has(.course-network) .output").count() == 1
    assert "reads" in sentence(opened)  # a digit is there, and an answer


def test_run_gives_the_logits_of_pytorch(opened):
    networks = network.load(recorded.folder())
    images = networks.pixels[:10]
    for chosen, net in networks.items():
        for off in ([], [1], [5], [4, 7], list(range(1, 10))):
            got = opened.evaluate(RUN, [chosen, images.flatten(1).tolist(), off])
            with torch.no_grad():
                wanted = net(images, off)
            assert torch.tensor(got).shape == (10, 10)
            assert (torch.tensor(got) - wanted).abs().max() < PRECISION, (chosen, off)


def test_the_page_has_at_most_2_mb(name):
    assert (HTML / f"{name}.html").stat().st_size <= 2_000_000


def test_blocks_and_networks_by_keyboard_alone(opened):
    """Tab reaches every control; the space bar and the arrow keys work them."""
    whole, box = sentence(opened), opened.get_by_role("checkbox", name="block 4")
    opened.get_by_role("checkbox", name="block 3").focus()
    opened.keyboard.press("Tab")
    assert box.evaluate("e => e === document.activeElement")
    opened.keyboard.press("Space")
    assert not box.is_checked() and "without block 4 reads" in sentence(opened)
    opened.get_by_role("button", name="switch all blocks on").press("Enter")
    assert sentence(opened) == whole and "residual-20, whole" in whole
    opened.get_by_role("radio", name="residual-20").focus()
    opened.keyboard.press("ArrowUp")
    assert "plain-20, whole" in sentence(opened)


def test_drawing_by_keyboard_alone(opened):
    opened.get_by_role("button", name="clear the paper").press("Enter")
    assert sentence(opened) == "The paper is empty."
    grid = opened.locator(".course-network [role=grid]")
    grid.locator("[tabindex='0']").focus()
    for key in ["ArrowRight"] * 3 + ["Space", "Space", "ArrowDown"] * 7:
        opened.keyboard.press(key)
    inked = grid.locator("[role=gridcell][aria-label*='ink 16 of 16']")
    assert inked.count() == 7 and "reads 1 " in sentence(opened)

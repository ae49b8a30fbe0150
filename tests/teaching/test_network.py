"""The network in the page: what the browser computes, and how it is operated."""

import json

import pytest
import torch

from resnet_course.reproduce import recorded
from resnet_course.teaching import network

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>x</title>
<body style="margin:0;font-family:sans-serif;{look}">{body}</body></html>"""
PRECISION = 1e-4  # of the page's logits against PyTorch with the same weights


@pytest.fixture(scope="module")
def networks():
    return network.load(recorded.folder())


@pytest.fixture
def visit(browser, tmp_path):
    """visit(body, width, look) -> the page, whose `messages` hold all that the console said."""
    contexts = []

    def go(body, width=1280, look="", **options):
        (tmp_path / "page.html").write_text(PAGE.format(body=body, look=look), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page, messages, requests = context.new_page(), [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        page.messages, page.requests = messages, requests
        return page

    yield go
    for context in contexts:
        context.close()


def output(networks, **options):
    return network.show(networks, **options)._repr_html_()


def logits_in_the_page(page, name, pixels, off):
    """Logits (N, 10) of images (N, 64), by the element's own method."""
    run = (
        "([name, images, off]) => { const e = document.querySelector('.course-network');"
        " e.network = name; return images.map(pixels => e.run(pixels, off)); }"
    )
    return torch.tensor(page.evaluate(run, [name, pixels.flatten(1).tolist(), off]))


@pytest.mark.parametrize("name", ["plain-20", "residual-20"])
def test_the_page_computes_what_pytorch_computes(visit, networks, name):
    """100 test images, whole, with each block off, and with several off."""
    page = visit(output(networks))
    images = networks.pixels[:100]
    assert len(images) == 100
    for off in [[], *([k] for k in range(1, 10)), [2, 3, 8], list(range(1, 10))]:
        with torch.no_grad():
            wanted = networks[name](images, off)
        got = logits_in_the_page(page, name, images, off)
        assert (got - wanted).abs().max() < PRECISION, off
    assert page.messages == []


def test_eight_bits_are_what_the_files_hold(networks):
    """A file's weights lie on the page's grid already, so packing loses nothing more."""
    for net in networks.values():
        with torch.no_grad():
            difference = net(networks.pixels) - network.quantized(net)(networks.pixels)
        assert difference.abs().max() < 1e-4


def test_the_recorded_networks_read_digits(networks):
    facts = json.loads((recorded.folder() / "digits-network.json").read_text())["networks"]
    assert set(facts) == set(networks) == {"plain-20", "residual-20"}
    for name, net in networks.items():
        with torch.no_grad():
            wrong = (net(networks.pixels).argmax(1) != networks.labels).float().mean()
        assert wrong <= 0.05 and facts[name]["test_error"] < 0.05
        assert abs(facts[name]["test_error"] - facts[name]["test_error_8_bits"]) < 0.01


def test_it_is_small_and_asks_nobody(networks):
    html = output(networks)
    assert len(html) < 1_000_000  # a page may have 2 MB, with its figures
    assert "http" not in html and "import(" not in html and "fetch(" not in html
    assert html.count("</script>") == 2


def test_it_needs_no_request(visit, networks):
    page = visit(output(networks))
    assert [url for url in page.requests if not url.startswith("file:")] == []
    assert len(page.requests) == 1


def test_blocks_by_keyboard(visit, networks):
    """The space bar switches a block off; sentence, bars and maps follow; `all on` undoes it."""
    page = visit(output(networks))
    sentence, box = page.locator("[role=status]"), page.get_by_role("checkbox", name="block 5")
    whole, maps = sentence.inner_text(), page.locator("canvas").nth(2)
    assert "whole, reads" in whole
    before = maps.evaluate("c => c.toDataURL()"), page.locator("table").inner_text()
    box.focus()
    page.keyboard.press("Space")
    assert "without block 5 reads" in sentence.inner_text()
    after = maps.evaluate("c => c.toDataURL()"), page.locator("table").inner_text()
    assert before[0] != after[0] and before[1] != after[1]
    assert "changed by" in maps.get_attribute("aria-label")
    page.get_by_role("button", name="switch all blocks on").press("Enter")
    assert sentence.inner_text() == whole and box.is_checked()
    assert page.messages == []


def test_the_network_can_be_chosen(visit, networks):
    page = visit(output(networks))
    page.get_by_role("radio", name="plain-20").check()
    assert "plain-20" in page.locator("[role=status]").inner_text()
    element = "document.querySelector('.course-network')"
    assert page.evaluate(f"{element}.network") == "plain-20"
    page.evaluate(f"{element}.network = 'residual-20'")
    assert page.get_by_role("radio", name="residual-20").is_checked()
    assert page.evaluate(f"{element}.networks") == ["plain-20", "residual-20"]


def ink(page):
    cells = page.locator("[role=gridcell]")
    labels = cells.evaluate_all("all => all.map(c => c.getAttribute('aria-label'))")
    return [int(label.split("ink ")[1].split()[0]) for label in labels]


def test_drawing_by_keyboard(visit, networks):
    page = visit(output(networks))
    page.get_by_role("button", name="clear the paper").click()
    assert sum(ink(page)) == 0 and "empty" in page.locator("[role=status]").inner_text()
    page.locator("[role=gridcell][tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "Space", "Space", "ArrowDown", "Space"):
        page.keyboard.press(key)
    drawn = ink(page)
    assert drawn[8 + 1] == 16 and drawn[16 + 1] == 8 and sum(drawn) == 24
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "row 3, column 2, ink 8 of 16"
    assert page.locator("[role=gridcell][tabindex='0']").count() == 1
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    assert ink(page)[16 + 1] == 0
    for _ in range(10):
        page.keyboard.press("ArrowLeft")  # stops at the edge
    assert "column 1" in page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_drawing_with_the_mouse(visit, networks):
    """A stroke down the middle is a one, and the other pen's squares stay white."""
    page = visit(output(networks))
    page.get_by_role("button", name="clear the paper").click()
    box = page.locator("[role=grid]").bounding_box()
    middle = box["x"] + 0.5 * box["width"]
    page.mouse.move(middle, box["y"] + 0.06 * box["height"])
    page.mouse.down()
    page.mouse.move(middle, box["y"] + 0.95 * box["height"], steps=12)
    page.mouse.up()
    drawn = ink(page)
    assert max(drawn) <= 16 and sum(drawn) > 150
    assert not any(drawn[row * 8 + column] for row in range(8) for column in (0, 1, 6, 7))
    page.mouse.move(box["x"] + 3, box["y"] + 3)  # the pen is up
    assert ink(page) == drawn
    reads = page.locator("[role=status]").inner_text()
    assert "residual-20, whole, reads 1 " in reads, reads


def test_drawing_with_a_finger(visit, networks):
    page = visit(output(networks), 390, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="clear the paper").tap()
    box = page.locator("[role=grid]").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert sum(ink(page)) > 5
    assert page.locator("[role=grid]").evaluate("g => getComputedStyle(g).touchAction") == "none"


def test_test_digits(visit, networks):
    page = visit(output(networks))
    digits = [page.get_by_role("button", name=f"another test digit {d}") for d in range(10)]
    digits[3].click()
    first = ink(page)
    assert first in networks.pixels[networks.labels == 3].flatten(1).int().tolist()
    digits[3].click()
    assert ink(page) != first
    digits[7].press("Enter")
    assert "reads 7" in page.locator("[role=status]").inner_text()


def test_two_on_one_page_do_not_meet(visit, networks):
    page = visit(output(networks) + output(networks, compact=True) + output(networks))
    roots = page.locator(".course-network")
    assert page.locator(".course-network[data-started]").count() == 3
    for i in range(3):
        assert roots.nth(i).locator("[role=gridcell]").count() == 64
        assert roots.nth(i).locator("input[type=radio]:checked").count() == 1
    roots.nth(0).get_by_role("radio", name="plain-20").check()
    roots.nth(1).get_by_role("checkbox", name="block 2").uncheck()
    sentences = [roots.nth(i).locator("[role=status]").inner_text() for i in range(3)]
    assert "plain-20, whole" in sentences[0] and "residual-20, whole" in sentences[2]
    assert "residual-20 without block 2" in sentences[1]
    assert page.evaluate("[...document.querySelectorAll('[id]')].length") == 0
    assert roots.nth(1).locator("canvas, details").count() == 0  # compact
    assert page.messages == []


def test_a_script_that_comes_late_starts_it(visit, networks):
    """Notebooks put the HTML in first and run its scripts afterwards."""
    page = visit("<div id='here'></div>")
    page.evaluate(
        "html => { const here = document.getElementById('here'); here.innerHTML = html;"
        " for (const old of here.querySelectorAll('script')) {"
        " const script = document.createElement('script');"
        " for (const a of old.attributes) script.setAttribute(a.name, a.value);"
        " script.textContent = old.textContent; old.replaceWith(script); } }",
        output(networks),
    )
    assert page.locator("[role=gridcell]").count() == 64 and page.messages == []


def test_without_scripts_it_is_readable(visit, networks):
    """As an untrusted notebook shows it."""
    page = visit(output(networks), java_script_enabled=False)
    assert "trust the notebook" in page.locator(".course-network-still").inner_text()
    assert page.locator(".course-network-still td").count() == 20
    assert len(page.locator("body").inner_text()) < 1500  # and no weights as text


@pytest.mark.parametrize("compact", [False, True])
def test_fits_a_phone(visit, networks, compact):
    page = visit(output(networks, compact=compact), 390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for i in range(64):
        box = page.locator("[role=gridcell]").nth(i).bounding_box()
        assert box["width"] >= 24 and abs(box["width"] - box["height"]) < 1


def test_takes_the_colours_of_a_dark_page(visit, networks):
    page = visit(output(networks), look="background:#121212;color:#eee")
    colour, light = "e => getComputedStyle(e).color", "rgb(238, 238, 238)"
    for name in ("button", "legend", "label", "th", "td", "p", "caption", "pre"):
        assert page.locator(f".course-network {name}").first.evaluate(colour) == light
    drawn = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    dark = page.locator("canvas").first.evaluate(drawn)
    page.evaluate("document.body.style.color = '#111'")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert page.locator("canvas").first.evaluate(drawn) != dark  # the maps follow the page
    page.evaluate("document.body.style.color = '#eee'")
    square = page.locator("[role=gridcell] span").first
    assert square.evaluate("e => getComputedStyle(e).backgroundColor") == light


def test_everything_has_a_name_for_a_screen_reader(visit, networks):
    page = visit(output(networks))
    tree = page.locator(".course-network").aria_snapshot()
    for words in (
        'grid "Your digit, 8 by 8 squares',
        'checkbox "block 9"',
        'group "Blocks that are on"',
        'group "Network"',
        'radio "plain-20"',
        'table "Probability of each digit"',
        'img "After stage 3: 64 maps of 2 × 2"',
    ):
        assert words in tree, (words, tree)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("run([1, 2], [])", "64 numbers from 0 to 16"),
        ("run(new Array(64).fill(17), [])", "64 numbers from 0 to 16"),
        ("run(new Array(64).fill(1), [0])", "block 0 is unknown"),
        ("run(new Array(64).fill(1), [10])", "numbers from 1 to 9"),
        ("network = 'resnet-50'", "choose one of plain-20, residual-20"),
    ],
)
def test_wrong_use_gets_one_sentence(visit, networks, call, sentence):
    page = visit(output(networks))
    script = f"() => {{ try {{ document.querySelector('.course-network').{call}; return ''; }} "
    said = page.evaluate(script + "catch (error) { return error.message; } }")
    assert sentence in said


def test_wrong_use_in_python_gets_one_sentence(networks, tmp_path):
    with pytest.raises(ValueError, match="must be what `load` gives, got dict"):
        network.show({})
    with pytest.raises(ValueError, match="blocks count from 1 to 9"):
        networks["plain-20"](networks.pixels[:1], [10])
    with pytest.raises(FileNotFoundError, match=r"no digits-network-\*\.pt"):
        network.load(tmp_path)
    with pytest.raises(ValueError, match="1 images and 2 labels"):
        network.Networks(networks, networks.pixels[:1], networks.labels[:2])


def test_a_saved_network_comes_back(networks, tmp_path):
    path = tmp_path / "digits-network-x.pt"
    network.save(path, "x", networks["plain-20"], networks.pixels[:3], networks.labels[:3])
    again = network.load(tmp_path)
    with torch.no_grad():
        wanted, got = (n(networks.pixels[:3]) for n in (networks["plain-20"], again["x"]))
    assert torch.allclose(wanted, got, atol=1e-4) and not again["x"].residual
    assert torch.equal(again.pixels, networks.pixels[:3])
    assert "x" in repr(network.show(again))

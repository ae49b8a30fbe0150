import json
import re
from base64 import b64decode
from html import unescape

import pytest

from resnet_course.teaching import explore, plot


def draw(kernel, stride):
    figure, axes = plot.panel("Output", "x", "y")
    axes.plot([0, kernel], [0, stride])
    words = f"Kernel {kernel}, stride {stride}."
    return plot.show(figure, caption=words, alt=words)


@pytest.fixture
def explorer():
    return explore.sliders(draw, {"stride": 2}, kernel=[1, 3, 5], stride=[1, 2])


def test_static_version_holds_every_frame_in_order(explorer):
    html = explorer.html()
    frames = re.findall(r"<template>(.*?)</template>", html, re.S)
    assert len(frames) == 6
    said = [re.search(r"Kernel (\d), stride (\d)", frame).groups() for frame in frames]
    assert said == [(k, s) for k in "135" for s in "12"]
    names = [json.loads(unescape(n)) for n in re.findall(r'data-names="(.*?)"', html)]
    assert names == [["1", "3", "5"], ["1", "2"]]
    assert re.findall(r' value="(\d)"', html) == ["0", "1"]  # the start that was asked for
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)
    assert len(re.findall("<img", html)) == 1  # a still picture of the first frame alone


def test_ids_differ_between_explorers(explorer):
    other = explore.sliders(draw, kernel=[1, 3], stride=[1])
    ids = [re.search(r'id="(e\w+)"', e.html())[1] for e in (explorer, other)]
    assert ids[0] != ids[1]
    assert explorer.html() == explorer.html()


def test_live_version_redraws(explorer):
    box = explorer.widget()
    kernel, stride, picture = box.children
    assert "Kernel 1, stride 2" in picture.value and stride.value == 2
    kernel.value = 5
    assert "Kernel 5, stride 2" in picture.value


def test_a_drawing_that_cannot_be_made_any_more_says_so():
    """A later cell may take away what the function reads; the widget must not stay as it was."""
    there = [1]
    live = explore.sliders(lambda kernel: draw(there[0], kernel), kernel=[1, 3]).widget()
    kernel, picture = live.children
    there.clear()
    kernel.value = 3
    assert "cannot be drawn any more" in picture.value and "IndexError" in picture.value
    assert "Run the cell again" in picture.value


def test_equal_frames_have_an_equal_name():
    """How a test finds out that a later cell has changed what a slider draws."""
    there = [1]
    live = explore.sliders(lambda kernel: draw(there[0], kernel), kernel=[1, 3])
    live.html()
    first = live.name
    live.html()
    assert live.name == first
    there[0] = 2
    live.html()
    assert live.name != first


def untrusted(html):
    """What Jupyter leaves of HTML that it does not trust, as JupyterLab 4.6 did in a browser."""
    html = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)
    return re.sub(r"</?(svg|g|path|text|defs|use|rect|circle|template)\b[^>]*>", "", html)


def seen(html):
    """The words outside of hidden boxes, and the pictures."""
    depth, hidden, words, pictures = 0, [], [], 0
    for tag, text in re.findall(r"(<[^>]+>)|([^<]+)", html):
        if tag.startswith("</"):
            depth -= 1
            hidden = [d for d in hidden if d <= depth]
        elif tag and not tag.endswith("/>") and not tag.startswith(("<input", "<br")):
            depth += 1
            hidden += [depth] if 'hidden="hidden"' in tag else []
        elif tag.startswith("<img"):
            pictures += not hidden
        elif text.strip() and not hidden:
            words.append(text.strip())
    return words, pictures


def test_where_jupyter_does_not_trust_it_the_first_frame_and_how_to_trust_are_seen(explorer):
    words, pictures = seen(untrusted(explorer.html()))
    assert pictures == 1
    assert [word for word in words if word.startswith("Kernel")] == ["Kernel 1, stride 2."]
    assert "Trust Notebook" in words[0] and len(words) == 1 + 2 * 2 + 1


VIEW = "application/vnd.jupyter.widget-view+json"


def test_one_output_serves_all(explorer, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/reader/05_batch_norm.ipynb")
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png", VIEW}
    assert bundle[VIEW]["model_id"]
    assert "kernel: [1, 3, 5]" in bundle["text/plain"]
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")


def test_no_widget_where_nobody_can_move_it(explorer, monkeypatch):
    """A build, a test, `nbconvert --execute`: there the HTML works, and a widget would be dead."""
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)
    assert set(explorer._repr_mimebundle_()) == {"text/plain", "text/html", "image/png"}


@pytest.mark.parametrize(
    ("start", "values", "message"),
    [
        (None, {}, "0 sliders"),
        (None, {"kernel": range(9), "stride": range(7)}, "63 frames"),
        (None, {"kernel": [], "stride": [1]}, "0 frames"),
        ({"stride": 9}, {"kernel": [1], "stride": [1, 2]}, "stride=9 is not among"),
        ({"colour": 1}, {"kernel": [1], "stride": [1]}, "colour=1 is not among"),
    ],
)
def test_bad_sliders(start, values, message):
    with pytest.raises(ValueError, match=message):
        explore.sliders(draw, start, **values)

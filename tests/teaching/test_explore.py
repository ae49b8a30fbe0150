import json
import re
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


def test_one_output_serves_both(explorer):
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {
        "text/plain",
        "text/html",
        "application/vnd.jupyter.widget-view+json",
    }
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "kernel: [1, 3, 5]" in bundle["text/plain"]


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

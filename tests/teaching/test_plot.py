import base64
import re
import xml.etree.ElementTree as ElementTree

import matplotlib.style
import pytest
import torch

from resnet_course.teaching import plot, still


def contrast(a, b):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [plot.PLAIN, plot.RESIDUAL, plot.GREEN, plot.PINK, plot.GREY])
@pytest.mark.parametrize("ground", ["#ffffff", "#14181e"], ids=["light", "dark"])
def test_colours_are_readable(colour, ground):
    assert contrast(colour, ground) >= 3


def example():
    figure = plot.curves({8: [0.5, 0.1], 56: [0.9, 0.6]}, "Title")
    return plot.show(figure, caption="A <caption>.", alt='Two "curves"')


def test_html_is_well_formed_and_follows_the_theme():
    html = example()._repr_html_()
    ElementTree.fromstring(html)
    assert 'role="img"' in html and "&lt;caption&gt;" in html
    assert "currentColor" in html and plot._INK not in html
    assert not re.search(r"(fill|stroke): #(000000|ffffff)", html)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)


SHIPPED = [name for name in matplotlib.style.available if not name.startswith("_")]


@pytest.mark.parametrize("name", ["default", *SHIPPED])
def test_no_style_of_the_reader_changes_a_figure(name):
    """`plt.style.use("dark_background")` at the top of a notebook made figures black on black."""
    expected = example()._repr_html_()
    with matplotlib.style.context(name):
        assert example()._repr_html_() == expected


def test_a_still_picture_for_where_the_drawing_is_dropped():
    html = example()._repr_html_()
    (picture,) = re.findall(r'<img class="course-still" alt="([^"]+)"[^>]*base64,([^"]+)"/>', html)
    assert picture[0] == "Two &quot;curves&quot;"
    svg = base64.b64decode(picture[1]).decode()
    assert svg.startswith("<svg") and "currentColor" not in svg
    ElementTree.fromstring(svg)
    assert '<div class="course-drawing" hidden="hidden"><svg' in html
    page = still.without(html)
    assert "course-still" not in page and still.SHOWN not in page and "hidden" not in page
    assert page.count("<svg") == html.count("<svg") == 1


def test_figures_are_reproducible_and_ids_unique():
    first, second = example()._repr_html_(), example()._repr_html_()
    assert first == second
    other = plot.show(plot.curves({8: [0.2, 0.1]}, "Other"), caption="c", alt="a")._repr_html_()
    ids = [re.findall(r' id="([^"]+)"', html) for html in (first, other)]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    for found, html in zip(ids, (first, other), strict=True):
        assert len(found) == len(set(found))
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', html)) == set(found)


@pytest.mark.parametrize("words", [{"caption": "", "alt": "a"}, {"caption": "c", "alt": " "}])
def test_figures_need_words(words):
    with pytest.raises(ValueError, match="is empty"):
        plot.show(plot.panel()[0], **words)


def test_terminal_gets_the_words():
    assert repr(example()) == 'Figure: A <caption>.\n(Two "curves")'


def test_other_plots_draw():
    profile = plot.layer_profile({"plain": ([3.0, 1.0], plot.PLAIN)}, "t", "norm")
    grid = plot.image_grid(torch.rand(3, 3, 4, 4), "abc", columns=2)
    maps = plot.feature_maps(torch.randn(5, 4, 6), "five maps", columns=3)
    assert [len(axes.images) for axes in maps.axes] == [1, 1, 1, 1, 1, 0]
    low, high = maps.axes[0].images[0].get_clim()
    assert (
        low == -high and [axes.images[0].get_clim() for axes in maps.axes[:5]] == [(low, high)] * 5
    )
    for figure in (profile, grid, maps):
        assert plot.to_svg(figure, "label").startswith("<svg")


def test_coordinates_are_short_and_labels_are_not_touched():
    figure, axes = plot.panel("0.12345", "x", "y")
    axes.plot([0.1234567, 0.7654321], [0.001, 0.003])
    svg = plot.to_svg(figure, "label")
    assert "0.12345" in svg and "0.003" in svg.replace("0.0030", "0.003")
    assert not re.search(r"\d\.\d{3,}", " ".join(re.findall(r"<[^>]+>", svg)))

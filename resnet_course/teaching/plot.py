"""The house's figures: crisp SVG that follows the page's light or dark theme, with text for those
who cannot see it.

Draw with matplotlib inside `style()`, then end the cell with `show(figure, caption=..., alt=...)`.
"""

import hashlib
import io
import re
from contextlib import contextmanager
from html import escape

import matplotlib
import matplotlib.image
import matplotlib.style
import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import markup, still

# Okabe and Ito's colours for all kinds of colour vision (https://jfly.uni-koeln.de/color/): the
# ones with a contrast of at least 3 to 1 against white and against the dark page.
PLAIN = "#D55E00"
RESIDUAL = "#0072B2"
GREEN = "#009E73"
PINK = "#CC79A7"
GREY = "#808080"

MARKERS = {
    8: "o",
    20: "s",
    32: "^",
    44: "v",
    56: "D",
    110: "P",
}  # by depth, the same in each chapter

_INK = "#010203"  # stands for the colour of the page's text; `to_svg` puts `currentColor` there
_STYLE = {
    "figure.figsize": (4.6, 3.3),
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=[RESIDUAL, PLAIN, GREEN, PINK]),
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "font.size": 11,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": "resnet-course",
}


@contextmanager
def style():
    """Colours and fonts of the course for every matplotlib figure made inside.

    A style that the reader has set, like `dark_background`, has no say in it: matplotlib's own
    values come first, then the course's.
    """
    with matplotlib.style.context(["default", _STYLE]):
        yield


def panel(title="", xlabel="", ylabel="", width=4.6, height=3.3):
    """One empty figure with labelled axes -> (figure, axes). Size in inches."""
    with style():
        figure = Figure(figsize=(width, height))
        axes = figure.subplots()
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def to_svg(figure, label):
    """An inline `<svg>` element: scales to its column, takes its text colour from the page.

    `label` is read aloud by screen readers.
    """
    for legend in filter(None, (axes.get_legend() for axes in figure.axes)):
        legend.set_frame_on(False)  # a legend made outside `style()` has a white box, black text
        for text in [legend.get_title(), *legend.get_texts()]:
            text.set_color(_INK)
    with style():
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    # Ids must be unique on a page that holds many figures; only those referred to are kept.
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\1#{prefix}", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", _short, tag[0]), svg)
    width, height = (float(n) for n in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    pixels = width * 4 / 3  # a point is 4/3 pixels
    look = f"width:100%;max-width:{pixels:.0f}px;height:auto"
    head = (
        f'<svg role="img" aria-label="{escape(label, quote=True)}" style="{look}" '
        f'viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + svg[svg.index(">") + 1 :].strip()


def _short(number):
    """Two decimals: a hundredth of a point cannot be seen, and pages stay small."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


class Shown:
    """Figures side by side (stacked on a phone) with a caption; see `show`."""

    def __init__(self, figures, caption, alt):
        self.figures, self.caption, self.alt = figures, caption, alt

    def _repr_html_(self):
        panels = "".join(
            '<div style="flex:1 1 300px;min-width:0;text-align:center">'
            + still.drawn(to_svg(figure, words), words)
            + "</div>"
            for words, figure in zip(self.words(), self.figures, strict=True)
        )
        row = "display:flex;flex-wrap:wrap;gap:1em;justify-content:center"
        return markup.figure(panels, row, self.caption)

    def _repr_png_(self):
        """All figures in one row, black on white: for LaTeX, which has neither HTML nor SVG."""
        drawn = []
        for figure in self.figures:
            buffer = io.BytesIO()
            with style():
                figure.savefig(buffer, format="png", dpi=120, facecolor="white")
            buffer.seek(0)
            drawn.append(matplotlib.image.imread(buffer)[..., :3])
        height = max(len(image) for image in drawn)
        row = [
            numpy.pad(image, ((0, height - len(image)), (0, 0), (0, 0)), constant_values=1)
            for image in drawn
        ]
        buffer = io.BytesIO()
        matplotlib.image.imsave(buffer, numpy.hstack(row), format="png")
        return buffer.getvalue()

    def words(self):
        """What stands for each figure, for those who cannot see it."""
        if len(self.figures) == 1:
            return [self.alt]
        return [f"Panel {number}. {self.alt}" for number, _ in enumerate(self.figures, 1)]

    def __repr__(self):
        return f"Figure: {self.caption}\n({self.alt})"


def show(*figures, caption, alt):
    """What a cell that draws ends with. `caption` says what to see; `alt` says what is drawn.

    Both are required: a figure without words is lost on readers who cannot see it. In a terminal
    the words are all there is.
    """
    for name, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"{name} is empty: write one sentence for it")
    return Shown(figures, caption, alt)


# The course's plots


def curves(histories, title, of="train_error", ylabel="training error, running, %", colour=PLAIN):
    """Error in percent against epochs, one line for each depth -> figure.

    `histories` maps a depth to the list of values in `history.<of>`, or to a `History`.
    """
    figure, axes = panel(title, "epoch", ylabel)
    for number, (depth, history) in enumerate(histories.items()):
        percent = [100 * value for value in getattr(history, of, history)]
        look = {"marker": MARKERS.get(depth, "o"), "linewidth": 1.2 + 0.4 * number}
        with style():
            epochs = range(1, len(percent) + 1)
            axes.plot(epochs, percent, color=colour, label=f"{depth} layers", **look)
    with style():
        axes.set_ylim(-3, 100)
        axes.set_yticks(range(0, 101, 20))
        axes.legend()
    return figure


def layer_profile(profiles, title, ylabel):
    """One value per layer on a logarithmic axis -> figure.

    `profiles` maps a label to (values, colour); the values run from the input to the output.
    """
    figure, axes = panel(title, "layer, from the input to the output", ylabel)
    with style():
        for (label, (values, colour)), dash in zip(
            profiles.items(), ["-", "--", ":", "-."] * len(profiles), strict=False
        ):
            axes.plot(range(1, len(values) + 1), values, dash, color=colour, label=label)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


def image_grid(images, labels, columns=10):
    """Grey or colour images in a grid, each under its label -> figure. Images (N, C, H, W)."""
    rows = -(-len(images) // columns)
    with style():
        figure = Figure(figsize=(0.62 * columns, 0.8 * rows))
        for axes, image, label in zip(
            figure.subplots(rows, columns).flat, images, labels, strict=False
        ):
            pixels = image.detach().cpu().float()
            pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min() + 1e-12)
            shown = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
            axes.imshow(shown.numpy(), cmap="gray_r", interpolation="nearest")
            axes.set_title(str(label), fontsize=9, loc="center", pad=2)
            axes.axis("off")
    return figure


def feature_maps(maps, title, columns=1, width=3.1):
    """Maps (C, H, W) in a grid under one title -> figure. `width` in inches.

    Grey is 0, white positive, black negative. All share one scale: a weak map looks weak.
    """
    maps = maps.detach().cpu().float()
    rows, limit = -(-len(maps) // columns), maps.abs().max().item()
    height = width / columns * rows * maps.shape[1] / maps.shape[2] + 0.4
    with style():
        figure = Figure(figsize=(width, height))
        figure.suptitle(title, fontsize="medium")
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            axes.axis("off")
        for axes, pixels in zip(figure.axes, maps, strict=False):
            look = {"cmap": "gray", "interpolation": "nearest"}
            axes.imshow(pixels.numpy(), vmin=-limit, vmax=limit, **look)
    return figure

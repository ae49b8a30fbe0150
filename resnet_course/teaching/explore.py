"""Explorers: a drawing with sliders, live where somebody sits before a kernel, and pre-drawn.

One output serves all. Jupyter shows its widgets, which draw anew; the built page takes the HTML,
which holds every frame and a few lines of script behind ordinary range inputs; LaTeX, which has
neither, the first frame.
"""

import base64
import hashlib
import itertools
import os
import sys
from html import escape

from . import still

MOST_FRAMES = 60
SCRIPT = """(() => {
const root = document.getElementById("@ID@");
const inputs = [...root.querySelectorAll("input")];
const frames = root.querySelectorAll("template");
const stage = root.querySelector(".course-frame");
const names = inputs.map(input => JSON.parse(input.dataset.names));
const draw = () => {
  let frame = 0;
  inputs.forEach((input, i) => {
    const name = names[i][+input.value];
    frame = frame * names[i].length + +input.value;
    input.setAttribute("aria-valuetext", name);
    input.nextElementSibling.textContent = name;
  });
  stage.replaceChildren(frames[frame].content.cloneNode(true));
};
inputs.forEach(input => input.addEventListener("input", draw));
draw();
})();"""


def somebody_is_there():
    """Can anybody move a widget's sliders? Not where a build, a test or nbconvert runs the kernel.

    Their page would show dead widgets, or none, in the place of the HTML, which works there.
    """
    names = ("JPY_SESSION_NAME", "VSCODE_PID")  # Jupyter's server and VS Code set them
    return "google.colab" in sys.modules or any(name in os.environ for name in names)


class Explorer:
    """What `sliders` returns; see there."""

    def __init__(self, draw, start, values):
        self.draw, self.start, self.values = draw, start, values
        self.name = ""  # the same frames have the same name

    def frames(self):
        """The HTML of every combination, the last slider changing fastest."""
        for combination in itertools.product(*self.values.values()):
            yield self.draw(**dict(zip(self.values, combination, strict=True)))._repr_html_()

    def html(self):
        """The static version. Where Jupyter drops its script, the first frame is left, and a line.

        The templates are in a hidden box: of an untrusted one, Jupyter keeps what is inside.
        """
        frames = list(self.frames())
        at = {slider: options.index(self.start[slider]) for slider, options in self.values.items()}
        first = 0
        for slider, options in self.values.items():
            first = first * len(options) + at[slider]
        self.name = name = "e" + hashlib.sha256("".join(frames).encode()).hexdigest()[:10]
        controls = "".join(
            _range(slider, options, at[slider]) for slider, options in self.values.items()
        )
        templates = "".join(f"<template>{still.without(frame)}</template>" for frame in frames)
        row = "display:flex;flex-wrap:wrap;gap:.4em 2em;justify-content:center"
        return (
            f'<div class="course-output course-explorer" id="{name}">'
            f'{still.SHOWN}{still.ASLEEP}<div style="{row}">{controls}</div>'
            f'<div class="course-frame" aria-live="polite">{frames[first]}</div>'
            f'<div hidden="hidden">{templates}</div>'
            f"<script>{SCRIPT.replace('@ID@', name)}</script></div>"
        )

    def widget(self):
        """The live version, for Jupyter and Colab."""
        import ipywidgets

        picture = ipywidgets.HTML()
        controls = {
            slider: ipywidgets.SelectionSlider(
                options=[(str(option), option) for option in options],
                value=self.start[slider],
                description=slider.replace("_", " "),
                style={"description_width": "initial"},
                continuous_update=False,
            )
            for slider, options in self.values.items()
        }

        def redraw(change=None):
            chosen = {slider: control.value for slider, control in controls.items()}
            try:
                drawn = self.draw(**chosen)._repr_html_()
            except Exception as error:  # else the picture stays as it is, without a word
                picture.value = (
                    "<p>This cannot be drawn any more: something that it reads has changed "
                    f"({escape(f'{type(error).__name__}: {error}')}). Run the cell again.</p>"
                )
            else:
                picture.value = still.without(drawn)

        for control in controls.values():
            control.observe(redraw, names="value")
        redraw()
        return ipywidgets.VBox([*controls.values(), picture])

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.html()}
        first = self.draw(**self.start)
        if hasattr(first, "_repr_png_"):  # of figures; a diagram has none
            bundle["image/png"] = base64.b64encode(first._repr_png_()).decode()
        if somebody_is_there():
            view = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
            bundle["application/vnd.jupyter.widget-view+json"] = view
        return bundle

    def __repr__(self):
        sliders = ", ".join(f"{name}: {options}" for name, options in self.values.items())
        return f"Explorer with sliders {sliders}"


def _range(slider, options, index):
    import json

    names = escape(json.dumps([str(option) for option in options]), quote=True)
    return (
        '<label style="display:inline-flex;gap:.6em;align-items:center">'
        f"{escape(slider.replace('_', ' '))} "
        f'<input type="range" min="0" max="{len(options) - 1}" step="1" value="{index}" '
        f'data-names="{names}" autocomplete="off">'
        f'<output style="min-width:3em">{escape(str(options[index]))}</output></label>'
    )


def sliders(draw, start=None, **values):
    """Show `draw(**chosen)` with one slider for each keyword: `kernel=[1, 3, 5]`.

    `draw` returns what `plot.show` gives, so that caption and alternative text follow the sliders.
    `start` maps a slider to its first value (otherwise the first in its list). All combinations are
    drawn once for the static page: at most 60.
    """
    count = 1
    for slider, options in values.items():
        values[slider] = list(options)
        count *= len(values[slider])
    if not values or not 1 <= count <= MOST_FRAMES:
        raise ValueError(
            f"{count} frames for {len(values)} sliders: give each slider a list of values, "
            f"at most {MOST_FRAMES} combinations in all"
        )
    chosen = {slider: options[0] for slider, options in values.items()} | (start or {})
    for slider, value in chosen.items():
        if value not in values.get(slider, ()):
            raise ValueError(f"start {slider}={value!r} is not among {values.get(slider)}")
    return Explorer(draw, chosen, values)

"""Diagrams drawn from the live module: every box and arrow is what one forward pass really did.

`block` draws one block, main path and shortcut side by side; `network` draws a whole network. Both
run the module once on an empty image and note which operation made which tensor, so a picture
cannot drift from the code: an in-place ReLU that changes the shortcut's input shows in it.
"""

from dataclasses import dataclass
from html import escape

from torch import nn

from . import markup, still
from .trace import Fork, flat, record, structure

COLOURS = {"conv": "#0072B2", "norm": "#808080", "act": "#D55E00", "merge": "#009E73"}
GREY = "#808080"


# Words


def _dims(shape):
    return " × ".join(map(str, shape))


def _words(items, shape):
    """The alternative text of a sequence."""
    said = []
    for item in items:
        if isinstance(item, Fork):
            said += [
                f"two paths. Main path: {_words(item.main, item.shape) or 'identity'}. "
                f"Shortcut: {_words(item.shortcut, item.shape) or 'identity'}. "
                f"Both meet in {_merge_word(item.merge)}"
            ]
            shape = item.merge.shape
        else:
            gives = "" if item.shape == shape else f" gives {_dims(item.shape)}"
            said.append(item.label + gives)
            shape = item.shape
    return "; ".join(said)


def _merge_word(op):
    return {"+": "an addition", "×": "a product", "cat": "a concatenation"}.get(op.label, op.label)


# Drawing. A piece has an axis at x = 0 on which arrows run down; it starts at y = 0.


@dataclass
class Piece:
    svg: str
    left: float
    right: float
    height: float


def _wide(text, size=12):
    return 0.56 * size * len(text)


def _text(x, y, text, size=12, anchor="middle", weight=400):
    look = f' font-weight="{weight}"' if weight != 400 else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{look}>'
        f"{escape(text)}</text>"
    )


def _line(*points):
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.2"/>'


def _head(x, y, dx=0, dy=1):
    """An arrow's head with its tip at (x, y), pointing in direction (dx, dy)."""
    a, b = (x - 7 * dx - 4 * dy, y - 7 * dy - 4 * dx), (x - 7 * dx + 4 * dy, y - 7 * dy + 4 * dx)
    return f'<path d="M{x:g} {y:g}L{a[0]:g} {a[1]:g}L{b[0]:g} {b[1]:g}z" fill="currentColor"/>'


def _arrow(y, length, shape=None, head=True):
    parts = _line((0, y), (0, y + length - (3 if head else 0)))
    parts += _head(0, y + length) if head else ""
    return parts + (_text(8, y + length / 2 + 4, _dims(shape), 11, "start") if shape else "")


def _moved(x, y, svg):
    return f'<g transform="translate({x:g} {y:g})">{svg}</g>'


def _rect(x, y, width, height, colour, dashed=False):
    look = 'stroke-dasharray="4 3" fill="none"' if dashed else f'fill="{colour}" fill-opacity=".1"'
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" {look} '
        f'stroke="{colour}" stroke-width="1.4"/>'
    )


def _box(ops, lane, named):
    """One or several fused operations in one box. In a lane lines are short, and stacked."""
    labels = [_brief(op) if len(ops) > 1 else op.label for op in ops]
    colour = COLOURS.get(ops[0].kind, GREY)
    title = "; ".join(f"{op.name}: {op.detail}" for op in ops if op.detail)
    title = f"<title>{escape(title)}</title>" if title else ""
    if len(ops) > 1 and not lane:
        return _segments(labels, colour, title)
    lines = [line for label in labels for line in (_wrapped(label) if lane else [label])]
    name = ops[0].name if named and ops[0].kind in ("conv", "norm") else ""
    width = max([_wide(line) for line in lines] + [_wide(name, 10), 50]) + 16
    height = 16 * len(lines) + (12 if name else 0) + 10
    svg = title + _rect(-width / 2, 0, width, height, colour)
    for i, line in enumerate(lines):
        svg += _text(0, 17 + 16 * i, line)
    if name:
        svg += _text(0, height - 7, name, 10)
    return Piece(f"<g>{svg}</g>", width / 2, width / 2, height)


def _segments(labels, colour, title):
    widths = [_wide(label) + 14 for label in labels]
    width, x, svg = sum(widths), -sum(widths) / 2, ""
    for i, (label, own) in enumerate(zip(labels, widths, strict=True)):
        svg += _text(x + own / 2, 17, label)
        x += own
        if i + 1 < len(labels):
            svg += f'<path d="M{x:g} 0V26" stroke="{colour}"/>'
    svg = title + _rect(-width / 2, 0, width, 26, colour) + svg
    return Piece(f"<g>{svg}</g>", width / 2, width / 2, 26)


def _wrapped(label):
    """A label in lines of at most about 16 letters, broken at commas."""
    lines = [""]
    for part in label.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        lines = [*lines[:-1], joined] if len(joined) <= 16 else [*lines, part]
    return [line for line in lines if line]


def _fused(items, fuse):
    """Boxes: lists of operations, a convolution with the batch norm and ReLU behind it in one."""
    boxes = []
    for item in items:
        follows = fuse and boxes and isinstance(boxes[-1], list) and not isinstance(item, Fork)
        if follows and item.kind in ("norm", "act") and boxes[-1][0].kind in ("conv", "norm"):
            boxes[-1].append(item)
        else:
            boxes.append(item if isinstance(item, Fork) else [item])
    return boxes


def _sequence(items, shape, fuse, lane=False, labelled=True):
    """Arrow, box, arrow, box … The first arrow carries its shape if `labelled`."""
    y, svg, left, right = 0, "", 0, 0
    for number, item in enumerate(_fused(items, fuse)):
        label = shape if labelled or number else None
        length = 30 if label else 20
        is_fork = isinstance(item, Fork)
        svg += _arrow(y, length, label, head=not is_fork)
        y += length
        right = max(right, 8 + _wide(_dims(shape), 11)) if label else right
        piece = _fork(item, fuse) if is_fork else _box(item, lane, not fuse)
        svg += _moved(0, y, piece.svg)
        left, right, y = max(left, piece.left), max(right, piece.right), y + piece.height
        shape = item.merge.shape if is_fork else item[-1].shape
    return Piece(svg, left, right, y)


def _fork(fork, fuse):
    main = _sequence(fork.main, fork.shape, fuse, labelled=False)
    out = flat(fork.main)[-1].shape if fork.main else fork.shape
    main_right = max(main.right, 8 + _wide(_dims(out), 11))
    if fork.shortcut:
        lane = _sequence(fork.shortcut, fork.shape, fuse, lane=True)
    else:
        width = 8 + max(_wide("identity"), _wide(_dims(fork.shape), 11))
        lane = Piece("", 0, width, 0)
    radius = 13 if fork.merge.label in "+×" else 18
    plus = max(main.height + 30, lane.height + 40) + radius  # height of the circle's centre
    x = main_right + 16 + lane.left
    svg = '<circle r="3" fill="currentColor"/>' + main.svg
    svg += _arrow(main.height, plus - radius - main.height, out)
    svg += _line((0, 0), (x, 0), (x, 0 if fork.shortcut else plus))
    if fork.shortcut:
        top = max(0, (plus - lane.height - 40) / 2)
        shape, bottom = flat(fork.shortcut)[-1].shape, top + lane.height
        svg += _line((x, 0), (x, top)) + _moved(x, top, lane.svg) + _line((x, bottom), (x, plus))
        svg += _text(x + 8, bottom + 20, _dims(shape), 11, "start")
        lane.right = max(lane.right, 8 + _wide(_dims(shape), 11))
    else:
        svg += _text(x + 8, plus / 2 - 2, "identity", 12, "start")
        svg += _text(x + 8, plus / 2 + 14, _dims(fork.shape), 11, "start")
    svg += _line((x, plus), (radius + 3, plus)) + _head(radius, plus, -1, 0)
    colour = COLOURS["merge"]
    svg += f'<circle cy="{plus:g}" r="{radius}" fill="{colour}" fill-opacity=".1" '
    svg += f'stroke="{colour}" stroke-width="1.6"/>'
    svg += _text(0, plus + (6 if radius == 13 else 4), fork.merge.label, 18 if radius == 13 else 11)
    return Piece(svg, max(main.left, radius), x + lane.right, plus + radius)


# Whole pictures


class Diagram:
    """One or several drawings that follow each other, with a caption; shown by Jupyter."""

    def __init__(self, panels, caption):
        self.panels, self.caption = panels, caption  # panels: (Piece, alternative text)

    def _repr_html_(self):
        drawings = "".join(
            f'<div style="break-inside:avoid">{still.drawn(_svg(piece, words), words)}</div>'
            for piece, words in self.panels
        )
        columns = "columns:2 320px;column-gap:1em" if len(self.panels) > 1 else ""
        return markup.figure(drawings, f"text-align:center;{columns}", self.caption)

    def __repr__(self):
        words = " ".join(words for _, words in self.panels)
        return f"Diagram: {self.caption}\n({words})"


def _svg(piece, words):
    left, width, height = piece.left + 8, piece.left + piece.right + 16, piece.height + 6
    look = f"width:100%;max-width:{1.15 * width:.0f}px;height:auto;break-inside:avoid"
    return (
        f'<svg role="img" aria-label="{escape(words, quote=True)}" style="{look}" '
        f'viewBox="{-left:g} -2 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="system-ui, sans-serif" fill="currentColor">{piece.svg}</svg>'
    )


def block(module, image_shape, caption=None):
    """One block with every operation in a box of its own and the shape (C, H, W) on every arrow.

    Main path left, shortcut right, and what comes after their sum below. Works for any module whose
    paths fork and join two by two; raises ValueError, in one sentence, for any other.
    """
    ops, last = record(module, image_shape)
    items, name = structure(ops, last), type(module).__name__
    piece = _sequence(items, ops[0].shape, fuse=False)
    out = ops[last].shape
    piece.svg = _moved(0, 16, piece.svg + _arrow(piece.height, 30, out))
    piece.svg += _text(0, 12, "input") + _text(0, piece.height + 60, "output")
    piece.height += 64
    piece.left = max(piece.left, 30)
    piece.right = max(piece.right, 8 + _wide(_dims(out), 11))
    words = f"{name}, input {_dims(ops[0].shape)}: {_words(items, ops[0].shape)}; "
    caption = caption or (
        f"{name} on an input of {_dims(ops[0].shape)} (channels × height × width), drawn from its "
        "own forward pass."
    )
    return Diagram([(piece, f"{words}output {_dims(out)}.")], caption)


def network(model, image_shape, detail="blocks", caption=None):
    """A whole network. `detail`: every block ("blocks"), or one box for equal ones ("stages").

    A convolution shares its box with the batch norm and ReLU that follow. Errors: see `block`.
    """
    if detail not in ("blocks", "stages"):
        raise ValueError(f'detail must be "blocks" or "stages", got {detail!r}')
    ops, last = record(model, image_shape)
    items, name = structure(ops, last), type(model).__name__
    modules = dict(model.named_modules())
    groups = _grouped(items, modules)
    if detail == "stages":
        panels = [_summary(groups, ops[0].shape, modules, name)]
    else:
        panels = _panels(groups, ops[0].shape, modules, name)
    caption = caption or (
        f"{name} on an input of {_dims(ops[0].shape)} (channels × height × width), drawn from its "
        "own forward pass"
        + ("; the panels follow one another, column by column." if len(panels) > 1 else ".")
    )
    return Diagram(panels, caption)


def _scope(item, modules):
    """The block an operation or fork belongs to: the innermost module that is not a container."""
    scopes = [op.scope.split(".") for op in flat([item])]
    common = 0
    while len({tuple(s[: common + 1]) for s in scopes}) == 1 and common < len(scopes[0]):
        common += 1
    parts = scopes[0][:common]
    while parts and isinstance(modules[".".join(parts)], nn.Sequential):
        parts = parts[:-1]
    return ".".join(parts)


def _grouped(items, modules):
    """Items next to each other that belong to the same block -> [(scope, items)]."""
    groups = []
    for item in items:
        scope = _scope(item, modules)
        if groups and groups[-1][0] == scope:
            groups[-1][1].append(item)
        else:
            groups.append((scope, [item]))
    return groups


def _end(items, shape):
    """The shape behind a sequence that starts with `shape`."""
    if not items:
        return shape
    return items[-1].merge.shape if isinstance(items[-1], Fork) else items[-1].shape


def _panels(groups, shape, modules, name):
    """One panel for each stage: [(Piece, alternative text)]."""
    stages, seen_block = [], False
    for scope, items in groups:
        seen_block = seen_block or bool(scope)
        stage = scope.split(".")[0] if scope else "head" if seen_block else "stem"
        if not stages or stages[-1][0] != stage:
            stages.append((stage, []))
        stages[-1][1].append((scope, items))
    panels = []
    for stage, members in stages:
        words = f"{name}, {stage}, input {_dims(shape)}: "
        svg, y, left, right, frames = "", 24, 0, 0, []
        for scope, items in members:
            piece = _sequence(items, shape, fuse=True)
            if scope:
                room = 14 if isinstance(items[0], Fork) else 26  # for the title
                svg += _arrow(y, room, head=False)
                top, y = y + 14, y + room
                frames.append((top, y + piece.height + 10, scope, modules[scope]))
                words += f"{scope}, {type(modules[scope]).__name__}: "
            svg += _moved(0, y, piece.svg)
            y += piece.height
            if scope:
                svg += _arrow(y, 10, head=False)
                y += 10
            words += _words(items, shape) + ". "
            left, right = max(left, piece.left + 8), max(right, piece.right + 8)
            shape = _end(items, shape)
        left, right = max(left, 110), max(right, 8 + _wide(_dims(shape), 11))
        svg += _arrow(y, 30, shape) + _text(-left, 14, stage, 14, "start", 700)
        for top, bottom, scope, module in frames:
            svg += _rect(-left, top, left + right, bottom - top, GREY, dashed=True)
            svg += _text(6 - left, top + 14, scope, 10, "start", 700)
            svg += _text(6 - left, top + 26, type(module).__name__, 10, "start")
        panels.append((Piece(svg, left, right, y + 32), words + f"Output {_dims(shape)}."))
    width = max(piece.left for piece, _ in panels), max(piece.right for piece, _ in panels)
    for piece, _ in panels:  # the same width for all, so that letters are equally large
        piece.left, piece.right = width
    return panels


def _summary(groups, shape, modules, name):
    """The whole network in one drawing, equal blocks in one box: (Piece, alternative text)."""
    rows, start = [], shape
    for scope, items in groups:
        if not scope:
            for box in _fused(items, fuse=True):
                ops = box.ops() if isinstance(box, Fork) else box
                rows.append(([], [" · ".join(_brief(op) for op in ops)], None, ops[-1].shape))
            continue
        lines, shortcut = _block_lines(items)
        blocks = [scope]
        last = rows[-1][0][-1:] if rows else []
        same_stage = last and last[0].rpartition(".")[0] == scope.rpartition(".")[0]
        if same_stage and rows[-1][1:3] == (lines, shortcut):
            blocks = [*rows.pop()[0], scope]
        rows.append((blocks, lines, shortcut, _end(items, shape)))
        shape = rows[-1][3]
    svg, y, words, shape = "", 0, f"{name} in short, input {_dims(start)}: ", start
    for blocks, lines, shortcut, behind in rows:
        svg += _arrow(y, 30, shape)
        y, shape = y + 30, behind
        kind = type(modules[blocks[0]]).__name__ if blocks else ""
        title = [f"{_span(blocks)}: {len(blocks)} × {kind}"] if blocks else []
        loop = 12 if shortcut else 0  # room for the shortcut's line, above and below
        height = 10 + 16 * len(title + lines)
        svg += _rect(-115, y + loop, 230, height, COLOURS["conv"] if lines else GREY)
        for i, line in enumerate(title + lines):
            weight = 700 if title and not i else 400
            svg += _text(0, y + loop + 17 + 16 * i, line, 12, weight=weight)
        if shortcut:
            each = ", in each" if len(blocks) > 1 else ""
            svg += _loop(y, height + 2 * loop, shortcut + each)
        y += height + 2 * loop
        words += f"{'; '.join(title + lines)}{f'; shortcut {shortcut}' if shortcut else ''}, "
        words += f"gives {_dims(shape)}. "
    svg += _arrow(y, 30, shape)
    return Piece(svg, 115, 215 if any(row[2] for row in rows) else 115, y + 32), words.strip()


def _loop(y, height, shortcut):
    """A shortcut around a box that stands for several blocks."""
    end = y + height
    svg = _line((0, y), (0, y + 12)) + _line((0, end - 12), (0, end))
    svg += _line((0, y + 2), (123, y + 2), (123, end - 5), (9, end - 5)) + _head(6, end - 5, -1, 0)
    svg += f'<circle cy="{end - 5:g}" r="5" fill="none" stroke="{COLOURS["merge"]}" '
    svg += 'stroke-width="1.6"/>'
    lines = _wrapped(shortcut)
    for i, line in enumerate(lines):
        svg += _text(129, y + height / 2 + 4 + 14 * (i - (len(lines) - 1) / 2), line, 11, "start")
    return svg


def _brief(op):
    return {"batch norm": "BN"}.get(op.label, op.label)


def _span(names):
    """ "layer1.1" or "layer1.1-5" for consecutive blocks."""
    first, last = names[0], names[-1]
    return first if first == last else f"{first}–{last.rsplit('.', 1)[-1]}"


def _block_lines(items):
    """(weight layers of the main path, one a line; the shortcut in words or None) of one block."""
    fork = next((item for item in items if isinstance(item, Fork)), None)
    path = [op for item in items for op in flat(item.main if isinstance(item, Fork) else [item])]
    lines = [op.label for op in path if op.kind == "conv"]
    if fork is None:
        return lines, None
    return lines, ", ".join(
        op.label for op in flat(fork.shortcut) if op.kind != "norm"
    ) or "identity"

"""Diagrams drawn from the live module: every box and arrow is what one forward pass really did.

`block` draws one block, main path and shortcut side by side; `network` draws a whole network. Both
run the module once on an empty image and note which operation made which tensor, so a picture
cannot drift from the code: an in-place ReLU that changes the shortcut's input shows in it.
"""

import copy
from dataclasses import dataclass
from html import escape

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

COLOURS = {"conv": "#0072B2", "norm": "#808080", "act": "#D55E00", "merge": "#009E73"}
GREY = "#808080"
ADD = {"add", "radd", "iadd"}
SYMBOLS = dict.fromkeys(ADD, "+") | {"mul": "×", "rmul": "×", "imul": "×", "cat": "cat"}
SAME = {"contiguous", "to", "clone", "detach", "float", "double", "requires_grad"}  # no operation


# What happened: one forward pass, noted operation by operation


@dataclass
class Op:
    """One operation of the forward pass. `scope` is the module in whose `forward` it stands."""

    kind: str
    label: str
    shape: tuple
    inputs: list
    name: str = ""
    scope: str = ""
    detail: str = ""


class _Recorder(TorchFunctionMode):
    """Notes leaf modules by hooks, and functions like `+` between them by intercepting them."""

    def __init__(self, model):
        super().__init__()
        self.ops, self.made, self.kept = [], {}, []
        self.scopes, self.leaf, self.functions = [], None, 0
        for name, module in model.named_modules():
            handlers = (self._enter_leaf, self._leave_leaf)
            if not name or not _is_leaf(module):
                handlers = (self._enter, self._leave)
            for handler, register in zip(
                handlers,
                (module.register_forward_pre_hook, module.register_forward_hook),
                strict=True,
            ):
                register(
                    lambda m, args, kwargs, out=None, handler=handler, name=name: handler(
                        name, m, [*args, *kwargs.values()], out
                    ),
                    with_kwargs=True,
                )

    def note(self, tensor, **facts):
        self.ops.append(Op(shape=tuple(tensor.shape[1:]), **facts))
        self.keep(tensor, len(self.ops) - 1)

    def keep(self, tensor, number):
        self.made[id(tensor)] = number
        self.kept.append(tensor)  # alive, so that no other tensor gets its id

    def sources(self, values):
        flat = [
            v for value in values for v in (value if isinstance(value, tuple | list) else [value])
        ]
        return [self.made[id(v)] for v in flat if id(v) in self.made]

    def _enter(self, name, module, inputs, out):
        self.scopes.append(name)

    def _leave(self, name, module, inputs, out):
        self.scopes.pop()

    def _enter_leaf(self, name, module, inputs, out):
        if self.leaf is None:
            self.leaf, self.functions = (name, self.sources(inputs)), 0

    def _leave_leaf(self, name, module, inputs, out):
        if self.leaf is None or self.leaf[0] != name:
            return
        sources, self.leaf = self.leaf[1], None
        unchanged = any(out is value for value in inputs) and not self.functions
        if isinstance(out, torch.Tensor) and sources and not unchanged:
            kind, label = _describe(module)
            self.note(
                out, kind=kind, label=label, inputs=sources, name=name, scope=self.scopes[-1],
                detail=repr(module) if len(repr(module)) < 200 else type(module).__name__,
            )  # fmt: skip

    def __torch_function__(self, function, types, args=(), kwargs=None):
        sources = self.sources([*args, *(kwargs or {}).values()])
        out = function(*args, **(kwargs or {}))
        self.functions += 1
        if self.leaf is None and sources and isinstance(out, torch.Tensor):
            name = getattr(function, "__name__", "function").strip("_")
            if name in SAME:
                self.keep(out, sources[0])
            else:
                kind, label = _describe_function(name, sources, args)
                self.note(out, kind=kind, label=label, inputs=sources, scope=self.scopes[-1])
        return out


def _is_leaf(module):
    container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    library = type(module).__module__.startswith("torch.nn")
    return not any(module.children()) or (library and not container)


def _size(value):
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    return f"{pair[0]}×{pair[1]}"


def _stride(value):
    pair = set(value) if isinstance(value, tuple | list) else {value}
    return "" if pair == {1} else f", stride {'×'.join(map(str, sorted(pair)))}"


def _describe(module):
    """(kind, words) of a leaf module."""
    if isinstance(module, nn.Conv2d):
        words = f"{_size(module.kernel_size)} conv, {module.out_channels}{_stride(module.stride)}"
        return "conv", words + (f", {module.groups} groups" if module.groups > 1 else "")
    if isinstance(module, nn.Linear):
        return "conv", f"linear, {module.out_features}"
    if isinstance(module, nn.BatchNorm2d):
        return "norm", "batch norm"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
        return "other", f"{_size(module.kernel_size)} {kind} pool{_stride(module.stride)}"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return "other", f"average pool to {_size(module.output_size)}"
    name, stride = type(module).__name__, getattr(module, "stride", 1)
    kind = "act" if type(module).__module__ == "torch.nn.modules.activation" else "other"
    return kind, name + (_stride(stride) if isinstance(stride, int) else "")


def _describe_function(name, sources, args):
    if name in ("relu", "sigmoid", "tanh", "gelu", "silu"):
        return "act", {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU"}.get(name, name)
    if len(sources) > 1:
        return "merge", SYMBOLS.get(name, name)
    number = next((value for value in args if isinstance(value, int | float)), None)
    if name in SYMBOLS and name != "cat":
        return "other", f"{SYMBOLS[name]} {'parameter' if number is None else f'{number:g}'}"
    return "other", {"getitem": "select pixels"}.get(name, name)


def _record(module, image_shape):
    """The operations from input to output, as a list, from one real forward pass."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"a diagram needs a torch.nn.Module, got {type(module).__name__}")
    if not (
        isinstance(image_shape, tuple | list)
        and image_shape
        and all(isinstance(n, int) and n > 0 for n in image_shape)
    ):
        raise ValueError(f"the shape is (channels, height, width), got {image_shape!r}")
    model, name = copy.deepcopy(module).eval(), type(module).__name__
    parameter = next(model.parameters(), torch.zeros(()))
    x = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    recorder = _Recorder(model)
    recorder.note(x, kind="input", label="input", inputs=[])
    try:
        with torch.no_grad(), recorder:
            out = model(x)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"no diagram: the forward pass of {name} stopped on an image of shape "
            f"{tuple(image_shape)} ({type(error).__name__}: {said})"
        ) from None
    if id(out) not in recorder.made:
        raise ValueError(
            f"no diagram: what the forward of {name} returns is not one tensor made from its input"
        )
    return recorder.ops, recorder.made[id(out)]


# The shape of the graph: a sequence of operations and of pairs of paths


@dataclass
class Fork:
    """Two paths from one tensor to one merging operation; `main` is the longer."""

    main: list
    shortcut: list
    merge: Op
    shape: tuple  # of the tensor that forks

    def ops(self):
        return [*_flat(self.main), *_flat(self.shortcut), self.merge]


def _flat(items):
    return [op for item in items for op in (item.ops() if isinstance(item, Fork) else [item])]


def _structure(ops, last):
    """Operations -> nested sequence of `Op` and `Fork`."""
    dominator = {0: 0}  # the last operation that every path to this one goes through
    for i, op in enumerate(ops[1:], 1):
        common = op.inputs[0]
        for other in op.inputs[1:]:
            while common != other:
                if common > other:
                    common = dominator[common]
                else:
                    other = dominator[other]
        dominator[i] = common
    seen = set()

    def walk(i, stop):
        items = []
        while i != stop:
            if i in seen:
                raise ValueError(
                    "no diagram: its paths cross; only forks that join again one by one, like "
                    "shortcuts around blocks, can be drawn"
                )
            seen.add(i)
            op = ops[i]
            if len(op.inputs) > 2:
                raise ValueError(
                    f"no diagram: {op.label!r} joins {len(op.inputs)} paths; only two can be drawn"
                )
            if len(op.inputs) == 1:
                items.append(op)
                i = op.inputs[0]
            else:
                fork = dominator[i]
                paths = [walk(source, fork) for source in op.inputs]
                main, shortcut = sorted(paths, key=lambda path: -len(_flat(path)))
                items.append(Fork(main, shortcut, op, ops[fork].shape))
                i = fork
        return items[::-1]

    return walk(last, 0)


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
    short = {"batch norm": "BN"} if len(ops) > 1 else {}
    labels = [short.get(op.label, op.label) for op in ops]
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
    out = _flat(fork.main)[-1].shape if fork.main else fork.shape
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
        shape, bottom = _flat(fork.shortcut)[-1].shape, top + lane.height
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
        drawings = "".join(_svg(piece, words) for piece, words in self.panels)
        columns = "columns:2 320px;column-gap:1em" if len(self.panels) > 1 else ""
        return (
            '<figure class="course-figure" style="margin:1em 0">'
            f'<div style="text-align:center;{columns}">{drawings}</div>'
            f'<figcaption style="opacity:.85">{escape(self.caption)}</figcaption></figure>'
        )

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
    ops, last = _record(module, image_shape)
    items, name = _structure(ops, last), type(module).__name__
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
    ops, last = _record(model, image_shape)
    items, name = _structure(ops, last), type(model).__name__
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
    scopes = [op.scope.split(".") for op in _flat([item])]
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
    path = [op for item in items for op in _flat(item.main if isinstance(item, Fork) else [item])]
    lines = [op.label for op in path if op.kind == "conv"]
    if fork is None:
        return lines, None
    return lines, ", ".join(
        op.label for op in _flat(fork.shortcut) if op.kind != "norm"
    ) or "identity"

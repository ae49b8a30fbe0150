"""What one forward pass does, operation by operation: `record` notes it, `structure` orders it.

A module is run once on an empty image; hooks and intercepted functions tell which operation made
which tensor. `resnet_course.diagram` draws the result.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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


def record(module, image_shape):
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
        return [*flat(self.main), *flat(self.shortcut), self.merge]


def flat(items):
    return [op for item in items for op in (item.ops() if isinstance(item, Fork) else [item])]


def structure(ops, last):
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
                main, shortcut = sorted(paths, key=lambda path: -len(flat(path)))
                items.append(Fork(main, shortcut, op, ops[fork].shape))
                i = fork
        return items[::-1]

    return walk(last, 0)

"""Chapter 04, residual blocks: checks and quiz."""

import copy
import itertools
import random
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet
from resnet_course.teaching.check import (
    Mistake,
    call,
    cause,
    close,
    differing,
    exercise,
    expect,
    fallback,
    gradients,
    judge,
    number,
    row,
    same,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


def _lively(block):
    """The block in float64, with batch norms that have learned something: nothing is 0 or 1."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in ((module.weight, 0.5), (module.running_var, 0.5)):
                nn.init.uniform_(value, low, 1.5)
            nn.init.normal_(module.bias, std=0.3)  # so that each ReLU meets both signs
            nn.init.normal_(module.running_mean, std=0.3)
    return block.double()


def _result(attempt, block, x, shape, what):
    """What a learner's forward gives for the block: finite, of this shape, with a gradient."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    mode = block.training
    try:
        out = attempt(block, x)
    except RuntimeError as error:
        absent = [name for name in block.order if name not in block.calls]
        if "must match the size of tensor" not in str(error):
            raise
        ran = f", and {_listed(absent)} had not run by then" if absent else ""
        raise Mistake(f"Two tensors meet whose shapes do not fit{ran}.", 2) from error
    expect(out is not None, "The function returned None: does it end with `return`?")
    beside = isinstance(out, torch.Tensor) and out.dim() == 4 and out.shape[1] == 2 * shape[1]
    expect(
        not beside or out.shape[2:] != shape[2:],
        "The output has twice the channels that it should have: the two paths are added number by "
        "number, not put one behind the other.",
        2,
    )
    tensor(out, shape, what)
    expect(
        out.dtype == x.dtype,
        "The numbers come out in another type than they came in: the block changes no types.",
    )
    expect(
        out.requires_grad,
        "The output carries no gradient: leave out `no_grad` and `detach`, the block must learn.",
    )
    expect(
        all(part.training == mode for part in block.modules()),
        "The block is in another mode afterwards: `forward` leaves the mode to the caller.",
    )
    return out


def _without_forward(block, order):
    """A copy that is no way round the exercise: only its parts can be called, on what fits.

    It notes in `calls` which layers run; `order` is how they should.
    """

    def missing(*_):
        raise Mistake("The block cannot be called, its forward is what you write: use its parts.")

    block = copy.deepcopy(block)
    block.forward, block.calls, block.order = missing, [], order
    for name, part in block.named_modules():
        takes = getattr(part, "in_channels", getattr(part, "num_features", None))
        if takes is not None:
            calls = [] if "." in name and isinstance(part, nn.BatchNorm2d) else block.calls
            note = partial(_note_call, calls, name.split(".")[0], takes)  # a projection: once
            part.register_forward_pre_hook(note)
    return block


def _note_call(calls, name, takes, _, inputs):
    """A layer that gets the wrong number of channels says so before PyTorch does."""
    came = inputs[0]
    expect(
        not isinstance(came, torch.Tensor) or came.dim() != 4 or came.shape[1] == takes,
        f"`{name}` was given another number of channels than it takes: `downsample` and `conv1` "
        "get x, and every other layer what the layer before it gave out.",
        2,
    )
    calls.append(name)


def _judge_output(out, wanted, block, what, known, hint):
    """Known mistakes first; then layers that never ran, ran twice, or in another order."""
    out, wanted = out.detach(), wanted.detach()
    if cause(out, [one[:2] for one in known], 1e-8) is None:
        calls = [name for name in block.calls if name in block.order]
        layers = [*block.order, "downsample"]
        projected = isinstance(getattr(block, "downsample", None), nn.Sequential)
        never = [name for name in layers[: None if projected else -1] if name not in block.calls]
        often = [name for name in layers if block.calls.count(name) > 1]
        told = (often, "ran more than once"), (never, "never ran")
        found = [f"{_listed(names)} {words}" for names, words in told if names]
        if calls != block.order and not found:
            found = [f"the layers did not run in the order {', '.join(block.order)}"]
        expect(not found, f"Expected something else for {what}: {', and '.join(found)}.", hint)
    judge(out, wanted, what, known, hint, tolerance=1e-8)


def _listed(names):
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


@exercise(
    "4.1",
    expects="a function of block and x",
    right="your forward equals the package's bottleneck with identity and projection shortcuts, in "
    "training and in evaluation mode: in what comes out, in the running statistics, and in the "
    "gradients of x and of every parameter.",
)
def complete_bottleneck(attempt):
    """A function: (block, x) -> what `resnet.Bottleneck.forward` computes."""
    width = random.randint(3, 5)
    for arguments, side, said in [
        ((16, 4, 1, resnet.option_c), 6, "a projection that keeps the shape"),
        ((4 * width, width, 1), random.randint(5, 8), "an identity shortcut"),
        ((width + 3, width, 2), random.randint(5, 8), "a projection with stride 2"),
    ]:
        for training in (True, False):
            block = _lively(resnet.Bottleneck(*arguments)).train(training)
            block.relu.inplace = True  # as in torchvision
            leaf = torch.randn(4, arguments[0], side, side, dtype=torch.double, requires_grad=True)
            x = leaf * 1.0  # not a leaf: in-place operations are allowed, as between two blocks
            version = x._version
            order = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]
            kept, own, meant = (
                x.detach().clone(),
                _without_forward(block, order),
                copy.deepcopy(block),
            )
            wanted = meant(leaf)
            out = _result(attempt, own, x, wanted.shape, f"the block with {said}")
            expect(
                x._version == version and torch.equal(x.detach(), kept),
                "The block overwrote its own input, which the shortcut and others still need.",
                2,
            )
            if not close(out, wanted, 1e-8):
                known = _known_forwards(copy.deepcopy(block), kept)
                _judge_output(out, wanted, own, f"the output of the block with {said}", known, 1)
            _same_learning(out, wanted, own, meant, leaf, partial(_one_path_cut, block, leaf))


def _one_path_cut(block, x):
    """The output with no gradient through one of the two paths, and which one."""
    block = copy.deepcopy(block)
    out = block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))))
    f, shortcut = block.bn3(block.conv3(out)), block.downsample(x)
    return [
        ("the main path", torch.relu(f.detach() + shortcut)),
        ("the shortcut", torch.relu(f + shortcut.detach())),
    ]


def _same_learning(out, wanted, own, meant, leaf, one_path_cut):
    """The gradients of x and of every parameter, and the state that is left, agree."""
    factors = torch.randn_like(wanted)
    things = [{"x": leaf, **dict(block.named_parameters())} for block in (own, meant)]
    got, right = gradients(out, things[0], factors), gradients(wanted, things[1], factors)
    missing = [name for name in right if right[name] is not None and got[name] is None]
    expect(
        not missing,
        f"The output is right, but no gradient arrives at {_some(missing)}: leave out `detach`, "
        "`.data` and `no_grad`.",
        2,
    )
    if not same(got["x"], right["x"], 1e-6):
        for path, value in one_path_cut():
            reached = gradients(value, {"x": leaf}, factors)["x"]
            expect(
                reached is None or not same(got["x"], reached, 1e-6),
                f"The output is right, but no gradient flows back to x through {path}: leave out "
                "`detach`, `.data` and `no_grad` there.",
                2,
            )
    name = differing(got, right, 1e-6)
    expect(
        name is None,
        f"The output is right, but the gradient that arrives at `{name}` is not that of the block.",
        2,
    )
    old, new = meant.state_dict(), own.state_dict()
    name = differing(
        {n: value.double() for n, value in new.items()},
        {n: value.double() for n, value in old.items()},
        1e-6,
    )
    expect(
        name is None,
        f"The output is right, but `{name}` is another afterwards: every layer runs once, and its "
        "weights stay.",
        2,
    )


def _some(names):
    return ", ".join(f"`{name}`" for name in names[:3]) + " and others" * (len(names) > 3)


MISSING_RELUS = {
    (0,): "the first ReLU is missing",
    (1,): "the second ReLU is missing",
    (2,): "the ReLU after the addition is missing",
    (0, 1): "there is no ReLU between the convolutions",
    (0, 2): "the first and the last ReLU are missing",
    (1, 2): "the second and the last ReLU are missing",
    (0, 1, 2): "the ReLUs are missing, all three",
}
MISSING_NORMS = {
    (0,): "`bn1` is missing",
    (1,): "`bn2` is missing",
    (2,): "`bn3` is missing",
    (0, 1): "`bn1` and `bn2` are missing",
    (0, 2): "`bn1` and `bn3` are missing",
    (1, 2): "`bn2` and `bn3` are missing",
    (0, 1, 2): "the batch norms are missing",
}


@torch.no_grad()
def _known_forwards(block, x):
    """(output, what was done, hint) for the known mistakes in a bottleneck's forward."""
    relu, c2 = torch.relu, block.conv2
    norms, shortcut = (block.bn1, block.bn2, block.bn3), block.downsample(x)
    projected = not isinstance(block.downsample, nn.Identity)

    def nothing(values):
        return values

    def main(x=x, relus=(relu, relu), norms=norms, conv2=c2):
        out = relus[0](norms[0](block.conv1(x)))
        return norms[2](block.conv3(relus[1](norms[1](conv2(out)))))

    f = main()
    one = relu(block.bn1(block.conv1(x)))
    two = relu(block.bn2(c2(one)))
    known = [
        (relu(f), "the shortcut was never added", 2),
        (f, "neither the shortcut nor the last ReLU is there", 2),
        (relu(shortcut), "the main path was never added", 2),
        (relu(f) + shortcut, "the last ReLU stands before the addition; it comes after it", 1),
        (
            relu(relu(f) + shortcut),
            "there is a ReLU before *and* after the addition; only the second belongs there",
            1,
        ),
        (relu(f + relu(shortcut)), "the shortcut has a ReLU of its own; it must have none", 2),
        (relu(f + 2 * shortcut), "the shortcut was added twice", 2),
        (f * shortcut, "the two paths were multiplied, and not added", 2),
        (relu(f * shortcut), "the two paths were multiplied, and not added", 2),
        (relu(f - shortcut), "the shortcut was subtracted; the two paths are added", 2),
        (relu(shortcut - f), "the main path was subtracted; the two paths are added", 2),
        (relu((f + shortcut) / 2), "that is the mean of the two paths; they are added", 2),
        (relu(f + shortcut / 2), "the shortcut was halved", 2),
        (relu(f / 2 + shortcut), "the main path was halved", 2),
        (relu(torch.maximum(f, shortcut)), "that is the larger path; the two are added", 2),
        (
            relu(block.bn3(block.conv3(two) + shortcut)),
            "the shortcut was added before `bn3`; it comes after it",
            2,
        ),
        (
            relu(main(relu(x)) + shortcut),
            "a ReLU before the first convolution came in",
            1,
        ),
        (
            relu(
                block.bn3(block.conv3(block.bn2(relu(c2(block.bn1(relu(block.conv1(x))))))))
                + shortcut
            ),
            "each ReLU stands before its batch norm; it comes after it",
            1,
        ),
    ]
    if projected:
        known += [
            (
                relu(f + block.downsample(relu(x))),
                "the shortcut got relu(x); it must get x itself",
                2,
            ),
            (
                relu(main(relu(x)) + block.downsample(relu(x))),
                "a ReLU before the first convolution came in, on both paths",
                1,
            ),
            (relu(2 * f), "the main path was added to itself, and the shortcut is not there", 2),
        ]
        if x.shape[1] == f.shape[1] and x.shape[2:] == f.shape[2:]:
            again = "the shortcut got the main path's output; keep x under its own name"
            known += [
                (relu(f + block.downsample(f)), again, 2),
                (
                    relu(f + x),
                    "x itself was added; the projection in `downsample` was skipped",
                    2,
                ),
            ]
    other_end = "another function than a ReLU stands at the end"
    ends = torch.sigmoid, torch.tanh, torch.abs, F.gelu, F.softplus, F.elu, F.silu
    leaks = [partial(F.leaky_relu, negative_slope=slope) for slope in (0.01, 0.1, 0.2)]
    known += [(end(f + shortcut), other_end, 1) for end in (*ends, *leaks)]
    for absent, words in MISSING_RELUS.items():
        a, b, last = (nothing if i in absent else relu for i in range(3))
        known.append((last(main(relus=(a, b)) + shortcut), words, 1))
    for absent, words in MISSING_NORMS.items():
        some = [nothing if i in absent else norm for i, norm in enumerate(norms)]
        known.append((relu(main(norms=some) + shortcut), words, 1))
    b1, b2, b3 = norms
    known += [
        (relu(main(norms=(b2, b1, b3)) + shortcut), "`bn1` and `bn2` changed places", 1),
        (relu(main(norms=(b1, b1, b3)) + shortcut), "`bn1` ran twice, and `bn2` never", 1),
        (relu(main(norms=(b2, b2, b3)) + shortcut), "`bn2` ran twice, and `bn1` never", 1),
    ]
    if c2.stride == (1, 1):
        left_out = "`conv2`, the 3 × 3 convolution, was left out"
        known += [
            (relu(block.bn3(block.conv3(one)) + shortcut), left_out, 1),
            (relu(main(conv2=nothing) + shortcut), left_out, 1),
            (relu(main(conv2=lambda out: c2(c2(out))) + shortcut), "`conv2` ran twice", 1),
            (
                relu(block.bn3(block.conv3(one + two)) + shortcut),
                "a second shortcut, around `conv2`, came in; there is one, around all three",
                2,
            ),
        ]
    return known


@exercise(
    "4.2",
    expects="a function of x, out_channels and stride",
    right="your shortcut agreed on even and odd sides and strides 1, 2 and 3, and the gradient "
    "that flows back through it is that of a copy.",
)
def pad_shortcut(attempt):
    """A function: (x, out_channels, stride) -> every `stride`-th pixel, zeros behind."""
    few, more = random.sample(range(2, 6), 2)
    for channels, height, width, out_channels, stride in [
        (few, random.choice([6, 8]), 10, 2 * few, 2),
        (few, *random.sample([7, 9, 11], 2), few + more, 2),
        (random.randint(2, 5), 6, 8, 7, 1),
        (2, random.choice([10, 11]), 13, 6, 3),
        (3, 6, random.choice([8, 10]), 3, 2),
    ]:
        x = torch.randn(2, channels, height, width, dtype=torch.double, requires_grad=True)
        out = _padded_by(attempt, x, out_channels, stride)
        picked = x[:, :, ::stride, ::stride]
        missing = out_channels - channels
        wanted = F.pad(picked, (0, 0, 0, 0, 0, missing))
        what = f"the numbers with stride {stride}"
        if isinstance(out, torch.Tensor) and out.shape != wanted.shape:
            _judge_shape(tuple(out.shape), tuple(wanted.shape), tuple(x.shape), stride)
        tensor(out, wanted.shape, what, 2)
        if not close(out, wanted, 1e-6):
            expect(
                same(out, attempt(x, out_channels, stride), 1e-6),
                "Called twice with the same x, it gave different numbers: nothing in this shortcut "
                "is random, and nothing is learned.",
                2,
            )
            with torch.no_grad():
                known = _known_pads(x.detach(), out_channels, stride)
            _judge_new_channels(out.detach(), picked.detach())
            known = [one for one in known if not same(one[0], wanted, 1e-6)]
            if cause(out.detach(), [one[:2] for one in known], 1e-6) is None:
                _judge_pixels(out.detach(), x.detach(), picked.detach())
            judge(out.detach(), wanted.detach(), what, known, 2, tolerance=1e-6)
        expect(
            out.requires_grad,
            "No gradient flows back through your shortcut: `detach`, `.data` or `no_grad` cut it.",
            2,
        )
        factors = torch.randn_like(wanted)
        got, right = (gradients(values, {"x": x}, factors)["x"] for values in (out, wanted))
        expect(got is not None, "No gradient flows back to x through your shortcut.", 2)
        expect(close(got, right), "The gradient that flows back is not that of a copy.", 2)


def _padded_by(attempt, x, out_channels, stride):
    try:
        return call(attempt, x, out_channels, stride, hint=1)
    except RuntimeError as error:
        if "Sizes of tensors must match" in str(error):
            raise Mistake(
                "`cat` cannot put together what differs in height, width or number of images: the "
                "zeros must have the shape that is there *after* the step.",
                2,
            ) from error
        if "must match the existing size" in str(error):
            row_or_column = f"{error}".partition("non-singleton dimension ")[2][:1] in ("2", "3")
            odd = row_or_column and any(side % stride for side in x.shape[2:])
            rounded = ": where a side is odd, its last pixel counts, so that 7 rows become 4"
            raise Mistake(
                f"With stride {stride} the pixels do not fit into the place that was made for them"
                + (rounded if odd else "")
                + ".",
                1,
            ) from error
        if "Double but found Float" in str(error) or "same dtype" in str(error):
            raise Mistake(
                "The numbers that came in have 64 bits, and meet others of 32 bits: what the "
                "shortcut makes must have the type of x, and it has no weights.",
                2,
            ) from error
        raise


def _judge_shape(got, wanted, came, stride):
    reason, hint = None, 2
    steps = [tuple(-(-side // step) for side in came[2:]) for step in (1, 2, 3)]
    odd = any(side % stride for side in came[2:])
    if len(got) != 4:
        reason, hint = "keep the four axes: images, channels, height, width", 1
    elif got[0] == came[0] + wanted[1] - came[1] and got[0] != came[0]:
        reason, hint = "the zeros were put behind the images, axis 0; the channels are axis 1", 2
    elif got[0] != came[0]:
        reason, hint = "the number of images has changed; the step is for height and width", 1
    elif got[2:] == came[2:] and wanted[2:] != came[2:]:
        reason, hint = "height and width have not changed; take every `stride`-th pixel", 1
    elif got[2:] == wanted[2:]:
        reason, hint = _why_channels(got[1], wanted[1], came[1], stride), 2
    elif got[1] == wanted[1] and (got[2] != wanted[2]) != (got[3] != wanted[3]):
        reason, hint = "one of height and width has the wrong length; both take the step", 1
    elif got[1] == wanted[1] and odd and got[2:] == tuple(side // stride for side in came[2:]):
        reason, hint = "the last pixel is lost where a side is odd: rows 0, 2, 4 *and* 6 of 7", 1
    elif got[1] == wanted[1] and got[2:] in steps:
        reason, hint = "the step is that of another stride; use the one that is given", 1
    elif got[1] == came[1] and got[2] >= wanted[2] and got[3] >= wanted[3]:
        reason, hint = "the zeros went to the edge of the image instead of the channels", 2
    expect(reason is None, f"With stride {stride}, the shape is not the right one: {reason}.", hint)
    fallback(wanted, got, f"the shape with stride {stride}", hint)


def _why_channels(got, wanted, came, stride):
    """What is wrong with the number of channels, where height and width are right."""
    if got == came:
        return "the channels of zeros are missing"
    if got == came + wanted:
        return "only the *missing* channels are to be added, not `out_channels` more"
    if got == 2 * came:
        return (
            "as many channels were added as there are; `out_channels` says how many there must be"
        )
    if got == 2 * wanted - came:
        return "the missing channels were added twice"
    if got == -(-came // stride) + wanted - came or got == -(-came // stride):
        return "the step was taken in the channels too; it is for height and width"
    return "too few channels" if got < wanted else "too many channels"


def _judge_new_channels(out, picked):
    """Behind the right old channels there is something else than zeros."""
    channels = picked.shape[1]
    expect(
        not close(out[:, :channels], picked, 1e-6),
        "The old channels are right, but the new ones must hold zeros, and nothing else.",
        2,
    )


def _judge_pixels(out, x, picked):
    """Are the numbers pixels of x at all, and which?"""
    places = []
    for one in out.unbind(1):
        found = [i for i, channel in enumerate(picked.unbind(1)) if close(one, channel, 1e-6)]
        places.append(found[0] if found else None if one.any() else "zeros")
    old = [place for place in places if place not in (None, "zeros")]
    expect(
        None in places or sorted(old) != list(range(x.shape[1])),
        "The old channels and the zeros are there, but in another order: the old ones come first, "
        "as they are, and all zeros after them.",
        2,
    )
    near = ((out.flatten()[:, None] - x.flatten()).abs() < 1e-6).any(1) | (out.flatten() == 0)
    expect(
        not near.all(),
        "The numbers are pixels of x, and zeros, but not the right ones: channel by channel take "
        "rows and columns 0, `stride`, 2 · `stride` and so on.",
        1,
    )
    raise Mistake(
        "There are numbers that are no pixels of x: this shortcut copies every `stride`-th pixel, "
        "and computes nothing.",
        1,
    )


def _known_pads(x, out_channels, stride):
    """(output, what was done, hint) for the known mistakes."""
    picked, channels = x[:, :, ::stride, ::stride], x.shape[1]
    height, width = picked.shape[2:]
    missing, half = out_channels - channels, (out_channels - channels) // 2

    def behind(pixels):
        return F.pad(pixels, (0, 0, 0, 0, 0, missing))

    known = [
        (F.pad(picked, (0, 0, 0, 0, missing, 0)), "the zeros stand before the old channels", 2),
        (
            behind(x[:, :, :height, :width]),
            "that is the top left corner, not every `stride`-th pixel",
            1,
        ),
        (
            behind(F.avg_pool2d(x, stride, ceil_mode=True)),
            "that is the mean of neighbouring pixels; take one and skip the others",
            1,
        ),
        (
            behind(F.max_pool2d(x, stride, ceil_mode=True)),
            "that is the maximum of neighbouring pixels; take one and skip the others",
            1,
        ),
        (
            behind(x[:, :, stride - 1 :: stride, stride - 1 :: stride]),
            "it starts at another pixel; begin at row 0 and column 0",
            1,
        ),
        (
            behind(F.interpolate(x, size=(height, width), mode="nearest")),
            "the pixels are not `stride` apart, because the side is odd; a slice with a step is",
            1,
        ),
        (
            behind(F.interpolate(x, size=(height, width), mode="bilinear")),
            "that is the mean of neighbouring pixels; take one and skip the others",
            1,
        ),
        (behind(picked.relu()), "the negative numbers are gone; a copy keeps them", 1),
        (behind(picked.abs()), "the negative numbers lost their sign; a copy keeps it", 1),
        (behind(picked.flip(1)), "the old channels stand in reverse order", 2),
        (2 * behind(picked), "every number is twice what it should be", 1),
        (-behind(picked), "every number has the wrong sign", 1),
        (behind(0 * picked), "there is nothing but zeros", 1),
        (behind(picked.transpose(2, 3)), "height and width changed places", 1),
    ]
    if missing > 1:
        split = F.pad(picked, (0, 0, 0, 0, half, missing - half))
        words = "half of the zeros stand before the old channels; here all come after"
        known.append((split, words, 2))
    if out_channels >= 2 * channels:
        between = x.new_zeros(len(x), out_channels, height, width)
        between[:, : 2 * channels : 2] = picked
        known.append((between, "the zeros stand between the old channels, not after them", 2))
    return known


@exercise(
    "4.3",
    expects='a dictionary like {"first": (kernel, stride, padding, channels), "second": ...}',
    right="in both sums the shapes agree: the stride sees to the pixels, the number of kernels to "
    "the channels.",
)
def make_them_agree(attempt):
    """{"first": (kernel, stride, padding, channels), "second": ...} for an input (32, 30, 30)."""
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {show(attempt)}.")
    chosen = {}
    for name, wanted in MAIN_PATHS.items():
        four = "four numbers (kernel size, stride, padding, output channels)"
        expect(name in attempt, f'Expected {four} for "{name}"; this key is missing.')
        settings = attempt[name]
        good = isinstance(settings, tuple | list)
        shape = good and all(type(n) is int for n in settings) and tuple(settings) == wanted
        expect(
            not shape,
            f'That is the shape that comes out for "{name}"; expected are the {four} of a '
            "convolution that gives it.",
        )
        good = good and len(settings) == 4
        expect(good, f'Expected {four} for "{name}", got {show(settings)}.')
        chosen[name] = row(settings, 4, f'"{name}"')
    first, second = chosen.values()
    expect(
        not (_gives(second) == MAIN_PATHS["first"] and _gives(first) == MAIN_PATHS["second"]),
        "The two are swapped: each would fit the other path.",
    )
    for name, wanted in MAIN_PATHS.items():
        whole = chosen[name]
        _judge_order(name, wanted, whole)
        expect(
            _gives(whole) is not None or _does_not_fit(whole),
            f'Expected whole, positive numbers for "{name}" (padding may be 0), got '
            f"{attempt[name]}.",
        )
        kernel, stride, padding, _ = map(int, whole)
        if name == "first":
            expect(
                kernel == 1 and padding == 0,
                "The first shortcut is to be a 1 × 1 convolution without padding, yours has kernel "
                f"{kernel} and padding {padding}: the stride alone can do it.",
                2,
            )
        expect(
            not _does_not_fit(whole), f'"{name}": a kernel of {kernel} does not fit on the image.'
        )
        got = _gives(whole)
        facts = f'"{name}": the main path gives {wanted}, your shortcut {got}'
        reason, hint = _why_disagree(name, kernel, stride, padding, got)
        expect(got == wanted, f"{facts}: {reason}.", hint)


MAIN_PATHS = {"first": (48, 8, 8), "second": (96, 28, 28)}


def _usable(settings):
    kernel, stride, _, channels = settings
    whole = all(n == int(n) and 0 <= n < 10_000 for n in settings)
    return whole and 0 not in (kernel, stride, channels)


def _does_not_fit(settings):
    return _usable(settings) and settings[0] > 30 + 2 * settings[2]


def _gives(settings):
    """What a convolution with these settings makes of (32, 30, 30), or None."""
    if not _usable(settings) or _does_not_fit(settings):
        return None
    kernel, stride, padding, channels = map(int, settings)
    side = (30 + 2 * padding - kernel) // stride + 1
    return channels, side, side


def _judge_order(name, wanted, whole):
    """Numbers that would fit if their order were another."""
    fits = [one for one in itertools.permutations(whole) if _gives(one) == wanted]
    if name == "first":
        fits = [one for one in fits if one[0] == 1 and one[2] == 0]
    expect(
        not fits or _gives(whole) == wanted,
        f'The numbers for "{name}" would fit in another order: kernel size, stride, padding, '
        "output channels.",
    )


def _why_disagree(name, kernel, stride, padding, got):
    channels, side, _ = got
    if channels == 32:
        return "those are the channels that come *in*; count the kernels of the last convolution", 1
    if name == "second" and channels == 24:
        return "24 channels are in the middle of the path; the addition is at its end", 1
    if side == {"first": 8, "second": 28}[name]:
        only = "the channels do not: they are the kernels of the path's *last* convolution"
        return f"height and width fit, {only}", 1
    if name == "first" and stride == 2:
        reason = "the main path halves *twice*"
    elif name == "first":
        reason = f"a stride of {stride} is not two halvings in a row"
    elif stride > 1:
        reason = f"a stride of {stride} steps over pixels; the main path steps over none"
    elif (kernel, padding) == (1, 0):
        reason = "a 1 × 1 kernel loses no pixels, and two are lost on the main path"
    elif side == 30:
        reason = "padding keeps the two pixels that the main path loses"
    elif side > 30:
        reason = "so much padding makes the image larger; the main path loses two pixels"
    else:
        lost = "one pixel is" if side == 29 else f"{30 - side} pixels are"
        reason = f"{lost} lost here, and two on the main path"
    if channels != {"first": 48, "second": 96}[name]:
        reason = f"neither the channels nor height and width fit, and {reason}"
    return reason, 2


@exercise(
    "4.4",
    expects="a function of in_channels, channels and stride",
    right="your formula agrees with real bottlenecks, with and without projection.",
)
def count_bottleneck(attempt):
    """A function: (in_channels, channels, stride) -> parameters of a bottleneck with option B."""
    width, first = random.randint(5, 30), (80, 64, 1)
    for in_channels, channels, stride in [
        first,  # there all known mistakes differ
        (256, 64, 2),
        (256, 64, 1),
        (64, 64, 1),
        (512, 64, 1),
        (4 * width, width, 1),
        (width + 1, width, 1),
        (4 * width + random.randint(1, 9), width, 1),
        (2 * width, width, random.choice([2, 3])),
    ]:
        block = resnet.Bottleneck(in_channels, channels, stride)
        wanted = sum(p.numel() for p in block.parameters())
        what = f"the count for in_channels {in_channels}, channels {channels}, stride {stride}"
        got = number(call(attempt, in_channels, channels, stride), what)
        known = _known_projections(in_channels, channels, stride)
        known.append((wanted / 1e6, "that is in millions; each number counts as one", None))
        if (in_channels, channels, stride) == first:
            known += _known_counts(in_channels, channels)
            expect(
                got == wanted or got != number(call(attempt, 512, 128, 2), what),
                "It gives the same number for blocks of different sizes.",
                1,
            )
        judge(got, wanted, what, known, 1, tolerance=0, figures=True)


def _known_counts(i, c):
    """(number, what was done, hint) for mistakes that show at stride 1 with a projection."""
    wide = 4 * c
    convs, norms = i * c + 9 * c * c + c * wide, 2 * (2 * c + wide)
    project, project_norm = i * wide, 2 * wide
    total = convs + norms + project + project_norm
    no_bias = "there are no biases before a batch norm"
    one_by_one = "only the middle kernel is 3 × 3; the others are 1 × 1"
    from_input = "the first convolution reads `in_channels`, which need not be"
    return [
        (convs, "that is the convolutions of the main path alone", 1),
        (convs + project, "the batch norms have learned numbers too", 1),
        (
            total - (norms + project_norm) / 2,
            "a batch norm has *two* numbers per channel, γ and β",
            1,
        ),
        (
            total + norms + project_norm,
            "running statistics are not learned",
            1,
        ),
        (total - 2 * (wide - c), "the last batch norm has `4 * channels` channels", 1),
        (total + 4 * (wide - c), "only the last batch norm has `4 * channels` channels", 1),
        (total + 2 * c + wide + project_norm / 2, no_bias, 1),
        (total + 2 * c + wide, no_bias, 1),
        (total + project_norm / 2, no_bias, 1),
        (total + 8 * (i * c + c * wide), one_by_one, 1),
        (total + 8 * i * c, one_by_one, 1),
        (total + 8 * c * wide, one_by_one, 1),
        (total + 8 * (i * c + c * wide + project), one_by_one, 1),
        (total - 6 * c * c, "a 3 × 3 kernel has nine places, not three", 1),
        (total - 8 * c * c, "the middle kernel is 3 × 3, nine times as much as 1 × 1", 1),
        (total - i * c, "the first convolution was left out", 1),
        (total - 9 * c * c, "the 3 × 3 convolution was left out", 1),
        (total - 9 * c * c - 2 * c, "the 3 × 3 convolution was left out, with its batch norm", 1),
        (total - c * wide, "the last convolution was left out", 1),
        (total - i * c + c * c, f"{from_input} `channels`", 1),
        (total - i * c + wide * c, f"{from_input} `4 * channels`", 1),
        (
            total - i * c + wide * c - project + wide * wide,
            f"{from_input} `4 * channels`; neither does the projection's input",
            1,
        ),
        (
            total + wide * wide - c * wide,
            "the last convolution reads `channels`; only what it gives out is four times as much",
            1,
        ),
        (
            i * c + 9 * c * c + c * c + 6 * c + i * c + 2 * c,
            "the last convolution gives out `4 * channels`",
            1,
        ),
        (total - c * wide + c * c, "the last convolution gives out `4 * channels`", 1),
        (total - 2 * c, "a batch norm is missing; one follows each convolution", 1),
        (total - 2 * wide + 2 * i, "the projection's batch norm has `4 * channels` channels", 2),
        (total + project + project_norm, "the projection was counted twice", 2),
        (total + norms + project_norm + 4, "running statistics are not learned", 1),
        (
            i * c + 11 * c * c + 8 * c + 2 * i * c + 4 * c,
            "a bottleneck gives out `4 * channels`, not `2 * channels`",
            1,
        ),
        (
            project + project_norm,
            "that is the projection alone; does `... if ... else ...` need brackets?",
            2,
        ),
        (
            9 * i * c + 9 * c * c + 4 * c + i * c + 2 * c,
            "that is a basic block, of two 3 × 3 convolutions; a bottleneck has three convolutions",
            1,
        ),
        (total - project_norm, "the projection has a batch norm of its own", 2),
        (
            total - project - project_norm + i * c + 2 * c,
            "the projection gives out `4 * channels`, as the main path does",
            2,
        ),
        (total + 8 * project, "the projection is a 1 × 1 convolution, not 3 × 3", 2),
        (total - project + c * wide, "the projection reads `in_channels`", 2),
        (total - project + wide * wide, "the projection reads `in_channels`", 2),
    ]


def _known_projections(i, c, stride):
    """The same, for mistakes that depend on whether and why there is a projection."""
    wide = 4 * c
    main = i * c + 9 * c * c + c * wide + 2 * (2 * c + wide)
    project = i * wide
    if stride == 1 and i == wide:
        none = "here the shortcut is the identity and has no parameters"
        extra = project + 2 * wide, project, 2 * wide
        return [(main + more, none, 2) for more in extra] + [(0, "there is a main path", 2)]
    total = main + project + 2 * wide
    demands = "`stride` is not 1" if i == wide else "`in_channels` is not `4 * channels`"
    known = [(main, f"the projection is missing; it is needed, since {demands}", 2)]
    if stride > 1:
        kernel = "the projection is a 1 × 1 convolution, whatever the stride"
        known += [(total + project * (by - 1), kernel, 2) for by in (stride, stride**2)]
        thinned = "a stride leaves out pixels, and no weights"
        for part in (9 * c * c, project, total):
            for value in (part / stride, part / stride**2, part // stride, part // stride**2):
                known.append((total - part + value, thinned, 1))
    return known


class _ReluFirst(nn.Module):
    """The block of exercise 4.5, as it was meant."""

    def __init__(self, channels):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = resnet.conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = resnet.conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.bn1(self.conv1(torch.relu(x)))
        return self.bn2(self.conv2(torch.relu(out))) + x


@exercise(
    "4.5",
    expects="a function of block and x",
    right="the shortcut carries x itself, the caller's x is untouched, and the gradients of x and "
    "of every parameter agree, with the in-place ReLU still in the block.",
)
def mended_forward(attempt):
    """A function: (block, x) -> the output of `_ReluFirst`, with x left as it was."""
    for training in (True, False):
        block = _lively(_ReluFirst(3)).train(training)
        leaf = torch.randn(4, 3, 6, 6, dtype=torch.double, requires_grad=True)
        x = leaf * 1.0  # not a leaf: in-place operations are allowed, as between two blocks
        version = x._version
        kept = x.detach().clone()
        own = _without_forward(block, ["conv1", "bn1", "conv2", "bn2"])
        meant = copy.deepcopy(block)
        wanted = meant(leaf)
        out = _result(attempt, own, x, wanted.shape, "the output")
        right = close(out, wanted, 1e-8)
        if not torch.equal(x.detach(), kept):
            said = "the caller's x was overwritten"
            if right:
                said = (
                    "the sum is right, but the caller's x was overwritten, and others may need it"
                )
            elif torch.equal(x.detach(), torch.relu(kept)) and _adds_relu(out, block, kept):
                said = "the in-place ReLU still overwrites x, so that the shortcut adds relu(x)"
            raise Mistake(f"Not mended yet: {said}.", 1)
        expect(
            x._version == version,
            "The caller's x was overwritten, and its old numbers were put back: autograd notices, "
            "and can no longer go back through it.",
            1,
        )
        expect(
            own.relu.inplace,
            "The block's ReLU is no longer in-place, but the block stays as it is: mend the "
            "forward.",
            2,
        )
        if not right:
            known = _known_mended(copy.deepcopy(block), kept)
            _judge_output(out, wanted, own, "the output", known, 2)
        _same_learning(out, wanted, own, meant, leaf, partial(_one_branch_cut, block, leaf))


@torch.no_grad()
def _adds_relu(out, block, x):
    """Is the output the main path's and relu(x)?"""
    return same(out, copy.deepcopy(block)(x) - x + torch.relu(x), 1e-8)


def _one_branch_cut(block, x):
    """As `_one_path_cut`, for this block."""
    block = copy.deepcopy(block)
    f = block(x) - x
    return [("the main path", f.detach() + x), ("the shortcut", f + x.detach())]


@torch.no_grad()
def _known_mended(block, x):
    """(output, what was done, hint) for the known mistakes in the forward of `_ReluFirst`."""
    c1, b1, c2, b2 = block.conv1, block.bn1, block.conv2, block.bn2
    relu, first = torch.relu, block.bn1(block.conv1(torch.relu(x)))
    f = b2(c2(relu(first)))
    linear = b2(c2(relu(b1(c1(x)))))
    leaky = "a leaky ReLU lets a part of the negative numbers pass; a ReLU none"
    leaks = [
        (b2(c2(inner(b1(c1(F.leaky_relu(x, slope)))))) + x, leaky, 2)
        for slope in (0.01, 0.1, 0.2)
        for inner in (relu, partial(F.leaky_relu, negative_slope=slope))
    ]
    return [
        *leaks,
        (f + relu(x), "the shortcut still adds relu(x), not x", 2),
        (f, "the shortcut is missing", 2),
        (f - x, "the shortcut was subtracted", 2),
        (x - f, "the main path was subtracted", 2),
        (f * x, "the two paths were multiplied, and not added", 2),
        (f + 2 * x, "the shortcut was added twice", 2),
        (linear + x, "the first ReLU is gone; it belongs there, on a copy", 2),
        (linear + relu(x), "the first ReLU is on the shortcut, and not on the main path", 2),
        (relu(f + x), "a ReLU after the addition came in; this block has none there", 2),
        (b2(c2(first)) + x, "the second ReLU is gone; it did no harm", 2),
        (b2(c2(b1(c1(x)))) + x, "both ReLUs are gone; they belong there", 2),
        (
            relu(linear + x),
            "that is the original order, with the ReLU at the end; here it comes first",
            2,
        ),
        (
            relu(linear) + x,
            "the first ReLU went to the end of the main path; it belongs before `conv1`",
            2,
        ),
        (relu(f) + x, "a ReLU at the end of the main path came in; none belongs there", 2),
        (
            b2(relu(c2(b1(relu(c1(x)))))) + x,
            "the ReLUs stand behind the convolutions; here each stands before its convolution",
            2,
        ),
        (
            c2(relu(b2(c1(relu(b1(x)))))) + x,
            "the batch norms went to the front; here the order is ReLU, convolution, batch norm",
            2,
        ),
        (b1(c2(relu(b2(c1(relu(x)))))) + x, "`bn1` and `bn2` changed places", 2),
        (b2(c1(relu(first))) + x, "`conv1` ran twice, and `conv2` never", 2),
        (b2(c2(relu(b1(c2(relu(x)))))) + x, "`conv2` ran twice, and `conv1` never", 2),
        (b1(c2(relu(first))) + x, "`bn1` ran twice, and `bn2` never", 2),
        (c2(relu(c1(relu(x)))) + x, "the batch norms are missing", 2),
        (b2(c2(relu(b1(c1(x.abs()))))) + x, "`abs` is no ReLU: it keeps negative numbers' size", 2),
        (f + x.abs(), "the shortcut adds the absolute value of x", 2),
        (f + first, "the output of the first layer was added, not x", 2),
        (f + relu(first), "what goes into `conv2` was added, not x", 2),
        (b2(c2(relu(first)) + x), "x was added before `bn2`; it comes after it", 2),
        (f + x / 2, "the shortcut was halved", 2),
        (2 * (f + x), "the output is twice what it should be", 2),
        ((f + x) / 2, "that is the mean of the two paths; they are added", 2),
    ]


NAMES = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]


@exercise(
    "4.6",
    expects='a set of names like {"conv1.weight", "bn1.bias"}',
    right="measured: only `bn2.bias`, the one parameter that is added behind the dead part.",
)
def wrong_gamma(attempt):
    """The set of parameters with a gradient when the first γ, not the last, is zero."""
    attempt = {attempt} if isinstance(attempt, str) else attempt
    good = isinstance(attempt, set | frozenset | list | tuple)
    expect(good, f"Expected a set of parameter names, got {show(attempt)}.")
    other = [name for name in attempt if not (isinstance(name, str) and name in NAMES)]
    letters = len(other) > 1 and all(isinstance(name, str) and len(name) < 2 for name in other)
    expect(
        not letters,
        'Expected a set of names, got single letters: `set("...")` takes a text apart; braces, '
        '`{"..."}`, make a set of one name.',
    )
    biases = [name for name in other if name in ("conv1.bias", "conv2.bias")]
    expect(
        not biases,
        "The convolutions of this block have no bias: a batch norm with its own β follows each.",
    )
    if other:
        name = min(other, key=lambda one: one if isinstance(one, str) else "")
        raise Mistake(f"{show(name)} is not a parameter: the names are {', '.join(NAMES)}.")
    chosen = set(attempt)
    expect(len(chosen) < 6, "Not all six: walk forward until a layer gives out zeros.", 1)
    reasons = {
        "conv1.weight": ("its gradient would have to come back through γ = 0", 1),
        "bn1.weight": (
            "its gradient would have to pass a ReLU at 0, where the slope is 0",
            2,
        ),
        "bn1.bias": ("it moves the ReLU's input from 0, but PyTorch's ReLU has slope 0 there", 2),
        "conv2.weight": ("its input is zero everywhere, so no weight of it matters", 2),
        "bn2.weight": ("it multiplies the normalized output of `conv2`, which is 0", 1),
    }
    measured = _gradients_with_wrong_gamma()
    for name in NAMES:
        if name in chosen and name not in measured:
            reason, hint = reasons[name]
            expect(False, f"`{name}` gets none: {reason}.", hint)
    expect(
        measured <= chosen,
        "One does get a gradient: look for the parameter that is *added* to the output.",
        2,
    )


def _gradients_with_wrong_gamma():
    block = resnet.BasicBlock(4, 4)
    nn.init.zeros_(block.bn1.weight)
    (block(torch.rand(8, 4, 6, 6)) - torch.rand(8, 4, 6, 6)).square().sum().backward()
    return {name for name, p in block.named_parameters() if p.grad.any()}


QUIZ = [
    Question(
        "A residual block should give back its input. What must its main path compute?",
        [
            (
                "The identity.",
                "A *plain* block needs that. Here the identity comes from the shortcut.",
            ),
            (
                "Minus the identity, so that both paths cancel.",
                "Then the sum is 0: nothing comes out at all.",
            ),
            ("Zero, at every position.", "Then the sum is x, and x went through unchanged."),
        ],
        right=2,
    ),
    Question(
        "Main path: (128, 28, 28). Input: (64, 56, 56). Which shortcut fits?",
        [
            (
                "A 1 × 1 convolution with 128 kernels and stride 2.",
                "Stride 2 halves the sides, 128 kernels give 128 channels.",
            ),
            (
                "A 1 × 1 convolution with 64 kernels and stride 2.",
                "Height and width fit, but 64 channels cannot be added to 128.",
            ),
            (
                "The identity, since PyTorch fills up the channels and pixels that are missing.",
                "Only an axis of length 1 is broadcast. Everything else is an error.",
            ),
        ],
        right=0,
    ),
    Question(
        "Residual-56 with option C learned the digits slowly. Which change did about as much harm "
        "alone?",
        [
            (
                "Convolutions on the shortcut that start as the identity, and learn.",
                "Without batch norm these stayed below 1 % error: learning is not what harms most.",
            ),
            (
                "More parameters.",
                "The identity with a batch norm has hardly any more, and fails; the convolutions "
                "that start as the identity have as many as C, and learn.",
            ),
            (
                "A batch norm behind an exact identity, with nothing else on the shortcut.",
                "With it x no longer grows, and no block is a small correction.",
            ),
        ],
        right=2,
    ),
    Question(
        "The same target for a plain and a residual block with the same layers: 1 − x. Does the "
        "residual block learn it faster?",
        [
            (
                "Yes: the gradient has a second way, so any target is learned faster.",
                "Measured, it was the slower of the two.",
            ),
            (
                "No: it must first cancel the x that it was given.",
                "The shortcut is a guess about what blocks have to do. Here the guess is wrong.",
            ),
            (
                "Neither can learn it.",
                "Both can: for x between 0 and 1 it is not negative, so it passes the last ReLU.",
            ),
        ],
        right=1,
    ),
    Question(
        "Zero-γ sets which numbers to zero?",
        [
            (
                "γ of the last batch norm.",
                "F is 0, and γ itself gets a gradient, since something alive stands before it.",
            ),
            (
                "γ of the first batch norm.",
                "F would be 0 too, and the block would be dead behind it: see exercise 4.6.",
            ),
            (
                "All of them.",
                "F would be 0, but so would the gradients of the convolutions and of every γ.",
            ),
        ],
        right=0,
    ),
]

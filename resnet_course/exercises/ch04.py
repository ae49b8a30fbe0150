"""Chapter 04, residual blocks: checks and quiz."""

import copy
import random

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet
from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    differing,
    exercise,
    expect,
    fallback,
    gradients,
    number,
    row,
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
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return block.double()


def _result(attempt, block, x, shape, what):
    """What a learner's forward gives for the block: finite, of this shape, with a gradient."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    out = attempt(block, x)
    expect(out is not None, "The function returned None: does it end with `return`?")
    tensor(out, shape, what)
    expect(
        out.requires_grad,
        "The output carries no gradient: leave out `no_grad` and `detach`, the block must learn.",
    )
    return out


def _without_forward(block):
    """A copy that is no way round the exercise: only its parts can be called."""

    def missing(*_):
        raise Mistake("The block cannot be called, its forward is what you write: use its parts.")

    block = copy.deepcopy(block)
    block.forward = missing
    return block


def _closest(out, variants, otherwise):
    """The reason of the first variant that gives the same numbers."""
    for value, reason in variants:
        if value.shape == out.shape and close(out.detach(), value.detach(), 1e-8):
            return reason
    return otherwise


@exercise(
    "4.1",
    expects="a function of block and x",
    right="your forward equals the package's bottleneck with identity and projection shortcuts, in "
    "training and in evaluation mode: in what comes out, in the running statistics, and in the "
    "gradients of x and of every parameter.",
)
def complete_bottleneck(attempt):
    """A function: (block, x) -> what `resnet.Bottleneck.forward` computes."""
    width = random.randint(2, 4)
    for arguments, side, said in [
        ((8, 2, 1, resnet.option_c), 6, "a projection that keeps the shape"),
        ((4 * width, width, 1), random.randint(5, 8), "an identity shortcut"),
        ((width + 3, width, 2), random.randint(5, 8), "a projection with stride 2"),
    ]:
        for training in (True, False):
            block = _lively(resnet.Bottleneck(*arguments)).train(training)
            block.relu.inplace = True  # as in torchvision
            leaf = torch.randn(4, arguments[0], side, side, dtype=torch.double, requires_grad=True)
            x = leaf * 1.0  # not a leaf: in-place operations are allowed, as between two blocks
            kept, own, meant = x.detach().clone(), _without_forward(block), copy.deepcopy(block)
            wanted = meant(leaf)
            out = _result(attempt, own, x, wanted.shape, f"the block with {said}")
            expect(
                torch.equal(x.detach(), kept),
                "The block overwrote its own input, which the shortcut and others still need.",
                2,
            )
            if not close(out, wanted, 1e-8):
                reason, hint = _why_forward(out, copy.deepcopy(block), kept)
                start = f"With {said}, the output is not the block's"
                expect(reason is None, f"{start}: {reason}.", hint)
                fallback(wanted, out, f"the output of the block with {said}", 1)
            _same_learning(out, wanted, own, meant, leaf)


def _same_learning(out, wanted, own, meant, leaf):
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
    name = differing(got, right, 1e-6)
    expect(
        name is None,
        f"The output is right, but the gradient of `{name}` is not: `detach` or `.data` cuts one "
        "of the two paths.",
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


def _why_forward(out, block, x):
    c1, c2, c3 = block.conv1, block.conv2, block.conv3
    b1, b2, b3, shortcut = block.bn1, block.bn2, block.bn3, block.downsample(x)
    relu = torch.relu
    one = relu(b1(c1(x)))
    f = b3(c3(relu(b2(c2(one)))))
    variants = [
        (relu(f), ("the shortcut was never added", 2)),
        (f, ("neither the shortcut nor the last ReLU is there", 2)),
        (f + shortcut, ("the ReLU after the addition is missing", 1)),
        (relu(f) + shortcut, ("the last ReLU stands before the addition; it comes after it", 1)),
        (
            relu(relu(f) + shortcut),
            ("there is a ReLU before *and* after the addition; only the second belongs there", 1),
        ),
        (relu(f + 2 * shortcut), ("the shortcut was added twice", 2)),
        (relu(f + relu(shortcut)), ("the shortcut has a ReLU of its own; it must have none", 2)),
        (relu(b3(c3(b2(c2(b1(c1(x)))))) + shortcut), ("no ReLU between the convolutions", 1)),
        (relu(b3(c3(relu(b2(c2(b1(c1(x))))))) + shortcut), ("the first ReLU is missing", 1)),
        (relu(b3(c3(b2(c2(one)))) + shortcut), ("the second ReLU is missing", 1)),
        (relu(c3(relu(b2(c2(one)))) + shortcut), ("`bn3` is missing", 1)),
        (relu(c3(relu(c2(relu(c1(x))))) + shortcut), ("the batch norms are missing", 1)),
    ]
    swapped = relu(b3(c3(b2(relu(c2(b1(relu(c1(x)))))))) + shortcut)
    first = relu(x)
    inner = relu(b2(c2(relu(b1(c1(first))))))
    variants += [
        (swapped, ("each ReLU stands before its batch norm; it comes after it", 1)),
        (f * shortcut, ("the two paths were multiplied, and not added", 2)),
        (relu(f * shortcut), ("the two paths were multiplied, and not added", 2)),
        (relu(f - shortcut), ("the shortcut was subtracted", 2)),
        (
            relu(b3(c3(inner)) + block.downsample(first)),
            ("a ReLU before the first convolution came in, on both paths", 1),
        ),
        (
            relu(b3(c3(inner)) + shortcut),
            ("a ReLU before the first convolution came in", 1),
        ),
    ]
    if c1.in_channels == c3.out_channels:
        again = "the shortcut got the main path's output; keep x under its own name"
        variants.append((relu(f + block.downsample(f)), (again, 2)))
        variants.append((relu(b3(c3(relu(b1(c2(one))))) + shortcut), ("`bn1` ran twice", 1)))
    if x.shape == f.shape:
        skipped = "x itself was added; the projection in `downsample` was skipped"
        variants.insert(0, (relu(f + x), (skipped, 2)))
    return _closest(out, variants, (None, 1))


@exercise(
    "4.2",
    expects="a function of x, out_channels and stride",
    right="your shortcut agreed on even and odd sides and strides 1, 2 and 3, and the gradient "
    "that flows back through it is that of a copy.",
)
def pad_shortcut(attempt):
    """A function: (x, out_channels, stride) -> every `stride`-th pixel, zeros behind."""
    for channels, height, width, out_channels, stride in [
        (4, 8, 8, 8, 2),
        (2, 7, 9, 5, 2),
        (random.randint(2, 5), 6, 6, 7, 1),
        (2, random.choice([10, 11]), 12, 6, 3),
        (3, 6, random.choice([6, 10]), 3, 2),
    ]:
        x = torch.randn(2, channels, height, width, dtype=torch.double, requires_grad=True)
        out = call(attempt, x, out_channels, stride, hint=1)
        picked = x[:, :, ::stride, ::stride]
        missing = out_channels - channels
        wanted = F.pad(picked, (0, 0, 0, 0, 0, missing))
        what = f"{channels} channels of {height} × {width}, {out_channels} wanted, stride {stride}"
        if isinstance(out, torch.Tensor) and out.shape != wanted.shape:
            _judge_shape(tuple(out.shape), tuple(wanted.shape), tuple(x.shape), stride)
        tensor(out, wanted.shape, what, 2)
        if not close(out.detach(), wanted.detach(), 1e-6):
            reason, hint = _why_padded(out, x, out_channels, stride)
            start = f"With stride {stride}, the shape is right but not the numbers"
            expect(reason is None, f"{start}: {reason}.", hint)
            fallback(wanted, out, what, hint)
        expect(
            out.requires_grad,
            "No gradient flows back through your shortcut: `detach`, `.data` or `no_grad` cut it.",
            2,
        )
        (gradient,) = torch.autograd.grad(out.sum(), x)
        (right,) = torch.autograd.grad(wanted.sum(), x)
        expect(close(gradient, right), "The gradient that flows back is not that of a copy.", 2)


def _judge_shape(got, wanted, came, stride):
    reason, hint = None, 2
    steps = [tuple(-(-side // step) for side in came[2:]) for step in (1, 2, 3)]
    if len(got) != 4:
        reason, hint = "keep the four axes: images, channels, height, width", 1
    elif got[2:] == came[2:] and wanted[2:] != came[2:]:
        reason, hint = "height and width have not changed; take every `stride`-th pixel", 1
    elif got[1] == came[1] and got[2:] == wanted[2:]:
        reason, hint = "the channels of zeros are missing", 2
    elif got[1] == came[1] + wanted[1] and got[2:] == wanted[2:]:
        reason, hint = "only the *missing* channels are to be added, not `out_channels` more", 2
    elif got[0] != came[0]:
        reason, hint = "the number of images has changed; the step is for height and width", 1
    elif got[1] == wanted[1] and (got[2] != wanted[2]) != (got[3] != wanted[3]):
        reason, hint = "one of height and width has the wrong length; both take the step", 1
    elif got[1] == wanted[1] and got[2:] in steps:
        reason, hint = "the step is that of another stride; use the one that is given", 1
    elif got[1] == wanted[1] and got[2:] == tuple(side // stride for side in came[2:]):
        reason, hint = "the last pixel is lost where a side is odd: rows 0, 2, 4 *and* 6 of 7", 1
    elif got[1] == came[1] and got[2:] != wanted[2:]:
        reason, hint = "the zeros went to the edge of the image instead of the channels", 2
    start = f"With stride {stride}, expected shape {wanted}, got {got}"
    expect(reason is None, f"{start}: {reason}.", hint)
    fallback(wanted, got, f"the shape with stride {stride}", hint)


def _why_padded(out, x, out_channels, stride):
    picked, missing = x[:, :, ::stride, ::stride], out_channels - x.shape[1]
    height, width = picked.shape[2:]

    def behind(pixels):
        return F.pad(pixels, (0, 0, 0, 0, 0, missing))

    half = missing // 2
    variants = [
        (F.pad(picked, (0, 0, 0, 0, missing, 0)), ("the zeros stand before the old channels", 2)),
        (
            F.pad(picked, (0, 0, 0, 0, half, missing - half)),
            ("half of the zeros stand before the old channels; here all come after", 2),
        ),
        (behind(x[:, :, :height, :width]), ("that is the top left corner, not every pixel", 1)),
        (
            behind(F.avg_pool2d(x, stride, ceil_mode=True)),
            ("that is the mean of neighbouring pixels; take one and skip the others", 1),
        ),
        (
            behind(F.max_pool2d(x, stride, ceil_mode=True)),
            ("that is the maximum of neighbouring pixels; take one and skip the others", 1),
        ),
        (
            behind(x[:, :, stride - 1 :: stride, stride - 1 :: stride]),
            ("it starts at another pixel; begin at row 0 and column 0", 1),
        ),
    ]
    old, new = out[:, : x.shape[1]], out[:, x.shape[1] :]
    if close(old.detach(), picked.detach(), 1e-6) and new.detach().any():
        return "the new channels must hold zeros, and nothing else", 2
    variants.append((2 * behind(picked), ("every number is twice what it should be", 1)))
    return _closest(out, variants, (None, 1))


@exercise(
    "4.3",
    expects='a dictionary like {"first": (kernel, stride, padding, channels), "second": ...}',
    right="in both sums the shapes agree: the stride sees to the pixels, the number of kernels to "
    "the channels.",
)
def make_them_agree(attempt):
    """{"first": (kernel, stride, padding, channels), "second": ...} for an input (32, 30, 30)."""
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {show(attempt)}.")
    for name, wanted in (("first", (48, 8, 8)), ("second", (96, 28, 28))):
        expect(name in attempt, f'Expected four numbers for "{name}"; this key is missing.')
        settings = attempt[name]
        four = isinstance(settings, tuple | list) and len(settings) == 4
        expect(four, f'Expected four numbers for "{name}", got {show(settings)}.')
        whole = row(settings, 4, f'"{name}"')
        expect(
            all(n == int(n) and n < 10_000 for n in whole) and min(whole) >= 0 and 0 not in
            (whole[0], whole[1], whole[3]),
            f'Expected whole, positive numbers for "{name}" (padding may be 0), got {settings}.',
        )  # fmt: skip
        kernel, stride, padding, channels = map(int, whole)
        _judge_order(name, wanted, whole)
        if name == "first":
            expect(
                kernel == 1 and padding == 0,
                "The first shortcut is to be a 1 × 1 convolution without padding, yours has kernel "
                f"{kernel} and padding {padding}: the stride alone can do it.",
                2,
            )
        side = (30 + 2 * padding - kernel) // stride + 1
        expect(side > 0, f'"{name}": a kernel of {kernel} does not fit on the image.')
        facts = f'"{name}": the main path gives {wanted}, your shortcut {(channels, side, side)}'
        reason, hint = _why_disagree(name, kernel, stride, padding, channels, side)
        expect((channels, side, side) == wanted, f"{facts}: {reason}.", hint)


def _judge_order(name, wanted, whole):
    """The right numbers in another order: (kernel, stride, padding, channels) is asked for."""
    right = {"first": [1, 4, 0, 48], "second": [3, 1, 0, 96]}[name]
    other = sorted(whole) == sorted(right) and whole != right
    kernel, stride, padding, channels = map(int, whole)
    fits = (30 + 2 * padding - kernel) // stride + 1 == wanted[1] and channels == wanted[0]
    expect(
        not other or fits,
        f'The numbers for "{name}" are the right ones in another order: kernel size, stride, '
        "padding, output channels.",
    )


def _why_disagree(name, kernel, stride, padding, channels, side):
    if name == "first" and stride == 2:
        return "the main path halves *twice*", 2
    if name == "first" and stride == 3:
        return "a stride of 3 is not two halvings in a row", 2
    if channels == 32:
        return "those are the channels that come *in*; count the kernels of the last convolution", 1
    if name == "second" and channels == 24:
        return "24 channels are in the middle of the path; the addition is at its end", 1
    if name == "second" and (kernel, stride, padding) == (1, 1, 0):
        return "a 1 × 1 kernel loses no pixels, and two are lost on the main path", 2
    if name == "second" and side == 30:
        return "padding keeps the two pixels that the main path loses", 2
    if side == {"first": 8, "second": 28}[name]:
        return "height and width fit, the channels do not", 1
    if channels == {"first": 48, "second": 96}[name]:
        return "the channels fit, height and width do not", 1
    return "neither the channels nor height and width fit", 1


@exercise(
    "4.4",
    expects="a function of in_channels, channels and stride",
    right="your formula agrees with real bottlenecks, with and without projection.",
)
def count_bottleneck(attempt):
    """A function: (in_channels, channels, stride) -> parameters of a bottleneck with option B."""
    width = random.randint(5, 30)
    for in_channels, channels, stride in [
        (96, 64, 1),  # with a projection first: it tells more mistakes apart
        (256, 64, 2),
        (256, 64, 1),
        (64, 64, 1),
        (4 * width, width, 1),
        (width + 1, width, 1),
        (2 * width, width, random.choice([2, 3])),
    ]:
        block = resnet.Bottleneck(in_channels, channels, stride)
        wanted = sum(p.numel() for p in block.parameters())
        what = f"in_channels {in_channels}, channels {channels}, stride {stride}"
        got = number(call(attempt, in_channels, channels, stride), f"the count for {what}")
        reason, hint = _why_count(got, in_channels, channels, stride)
        right = got == wanted
        figures = f"For {what}: expected {wanted:,}, got {got:,.0f}"
        expect(right or reason is None, f"{figures}: {reason}.", hint)
        if not right:
            fallback(wanted, got, f"the count for {what}", 1)


def _why_count(got, i, c, stride):
    wide = 4 * c
    same = stride == 1 and i == wide
    convs, norms = i * c + 9 * c * c + c * wide, 2 * (2 * c + wide)
    project, project_norm = (0, 0) if same else (i * wide, 2 * wide)
    total = convs + norms + project + project_norm
    for value, reason, hint in [
        (convs, "that is the convolutions of the main path alone", 1),
        (convs + project, "the batch norms have learned numbers too", 1),
        (
            total - (norms + project_norm) / 2,
            "a batch norm has *two* numbers per channel, γ and β",
            1,
        ),
        (
            total + norms + project_norm,
            "running statistics are not learned; γ and β are, two numbers per channel",
            1,
        ),
        (total - 2 * (wide - c), "the last batch norm has `4 * channels` channels", 1),
        (total - project - project_norm, "the projection is missing: this shape needs one", 2),
        (total - project_norm, "the projection has a batch norm of its own", 2),
        (total + i * wide + 2 * wide, "here the shortcut is the identity and has no parameters", 2),
        (total + i * wide, "here the shortcut is the identity and has no parameters", 2),
        (total + 2 * c + wide + project_norm / 2, "there are no biases before a batch norm", 1),
        (total + 2 * c + wide, "there are no biases before a batch norm", 1),
        (
            total + 8 * (i * c + c * wide),
            "only the middle kernel is 3 × 3; the others are 1 × 1",
            1,
        ),
        (total - 6 * c * c, "a 3 × 3 kernel has nine places, not three", 1),
        (total - 8 * c * c, "the middle kernel is 3 × 3, nine times as much as 1 × 1", 1),
        (
            i * c + 9 * c * c + c * c + 6 * c + (0 if stride == 1 and i == c else i * c + 2 * c),
            "the last convolution gives out `4 * channels`",
            1,
        ),
    ]:
        if got == value and value != total:
            return reason, hint
    return None, 1


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
        kept, own = x.detach().clone(), _without_forward(block)
        meant = copy.deepcopy(block)
        wanted = meant(leaf)
        out = _result(attempt, own, x, wanted.shape, "the output")
        right = close(out.detach(), wanted.detach(), 1e-8)
        if not torch.equal(x.detach(), kept):
            said = (
                "the sum is right, but the caller's x was overwritten, and others may need it"
                if right
                else "the in-place ReLU still overwrites x, so that the shortcut adds relu(x)"
            )
            expect(False, f"Not mended yet: {said}.", 1)
        expect(
            own.relu.inplace,
            "You switched the block's ReLU to `inplace=False`; that works, but here the block "
            "stays as it is: mend the forward.",
            2,
        )
        if not right:
            reason, hint = _why_not_mended(out, copy.deepcopy(block), kept)
            start = "x is untouched, but the output is not as meant"
            expect(reason is None, f"{start}: {reason}.", hint)
            fallback(wanted, out, "the output", hint)
        _same_learning(out, wanted, own, meant, leaf)


def _why_not_mended(out, block, x):
    first = block.bn1(block.conv1(torch.relu(x)))
    f = block.bn2(block.conv2(torch.relu(first)))
    linear = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    return _closest(
        out,
        [
            (f + torch.relu(x), ("the shortcut still adds relu(x), not x", 2)),
            (f, ("the shortcut is missing", 2)),
            (f - x, ("the shortcut was subtracted", 2)),
            (linear + x, ("the first ReLU is gone; it belongs there, on a copy", 2)),
            (
                torch.relu(f + x),
                ("a ReLU after the addition came in; this block has none there", 2),
            ),
            (
                block.bn2(block.conv2(first)) + x,
                ("the second ReLU is gone; it did no harm", 2),
            ),
            (
                torch.relu(linear + x),
                ("that is the original order, with the ReLU at the end; here it comes first", 2),
            ),
        ],
        (None, 2),
    )


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
    for name in attempt:
        known = isinstance(name, str) and name in NAMES
        expect(known, f"{show(name)} is not a parameter: the names are {', '.join(NAMES)}.")
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
            ("Zero, at every position.", "Then the sum is x, and x went through unchanged."),
            (
                "Minus the identity, so that both paths cancel.",
                "Then the sum is 0: nothing comes out at all.",
            ),
        ],
        right=1,
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
                "Convolutions on the shortcut, started as the identity, that are free to learn.",
                "Without batch norm these stayed below 1 % error: learning is not what harms.",
            ),
            (
                "More parameters.",
                "The identity with a batch norm has hardly any more, and fails; the convolutions "
                "that start as the identity have as many as C, and learn.",
            ),
            (
                "A batch norm on an exact identity.",
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

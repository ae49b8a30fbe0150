"""Chapter 08, using a network that somebody else trained: checks and quiz."""

import copy
import random
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet
from resnet_course.teaching.check import (
    Mistake,
    as_before,
    call,
    choices,
    copied,
    exercise,
    expect,
    fallback,
    judge,
    proportion,
    same,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question

# 8.1


@exercise(
    "8.1",
    expects="a function of pixels, mean and std",
    right="two pixels from the border and further in, your inputs agree with the four steps, for a "
    "broad, a tall and a square picture and for networks of several sizes.",
)
def prepare(attempt):
    """A function: (pixels uint8 (3, H, W), mean (3, S, S), std) -> (1, 3, S, S)."""
    sides = random.sample(range(20, 32), 3)
    for kind, side in zip(("broad", "tall", "square"), sides, strict=True):
        times = random.choice((3, 4, 5))  # pixels of the picture for one of the input
        edge, more = side * times, 2 * times * random.choice((2, 3))
        height = edge + more * (kind == "tall")
        width = edge + more * (kind == "broad")
        pixels = _picture(height, width)
        mean, std = _smooth(3, side, side, 90, 150), random.uniform(30, 45)
        got = _prepared(attempt, pixels, mean, std, kind)
        ways = _preparations(pixels, mean, std)
        if _near(got, ways[0][0], 1.05 / std, 1.0):  # whoever rounds to whole pixel values, may
            continue
        why = next((rest for way, *rest in ways[1:] if _near(got, way, 0.05 / std, 0.95)), None)
        start = f"For a {kind} picture the input is another one than expected"
        if why is None:
            fallback(_inner(ways[0][0]), _inner(got), f"the inner part of the input, {kind}")
        expect(False, f"{start}: {why[0]}.", why[1])


def _prepared(attempt, pixels, mean, std, kind):
    """What comes back for this picture, (3, S, S)."""
    side = mean.shape[-1]
    try:
        got = call(attempt, pixels, mean, std, hint=2)
    except RuntimeError as error:
        said = str(error)
        expect(
            "should be greater than 0" not in said,
            f"For a {kind} picture the square that was cut out is empty: where nothing is to be "
            "taken off, `[a:-a]` is `[0:0]` and keeps nothing.",
            1,
        )
        if "must match the size" not in said:
            raise
        channels = said.rstrip(".").endswith("dimension 1")
        why = "the small picture is not as large as the mean image: its side is `mean.shape[-1]`"
        why = "the channels are the first axis, of `pixels` and of `mean`" if channels else why
        stopped = f"For a {kind} picture the code stopped, since sizes do not fit"
        raise Mistake(f"{stopped}: {why}.", 1) from error
    if isinstance(got, torch.Tensor) and got.shape == (3, side, side):
        raise Mistake("That is one picture, (3, S, S); the input is a batch, (1, 3, S, S).", 2)
    if (
        isinstance(got, torch.Tensor)
        and got.shape[:2] == (1, 3)
        and got.shape[2:] != mean.shape[1:]
    ):
        raise Mistake(
            f"Expected shape {(1, 3, side, side)} for a {kind} picture, as large as the mean image "
            f"that the network came with, got {tuple(got.shape)}.",
            1,
        )
    return tensor(got, (1, 3, side, side), f"the input from a {kind} picture", 2)[0].float()


def _inner(picture):
    """Without the border: there cutting before or after resizing differs."""
    return picture[:, 2:-2, 2:-2]


def _near(got, way, tolerance, share):
    """Do so many of the values agree?"""
    way = way.to(got.dtype)
    if share < 1:  # a known mistake may be small as a whole
        tolerance = min(tolerance, 0.02 * way.abs().mean().item())
    return ((_inner(got) - _inner(way)).abs() <= tolerance).float().mean().item() >= share


def _smooth(channels, height, width, low, high):
    coarse = torch.rand(1, channels, 6, 6) * (high - low) + low
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]


def _picture(height, width):
    """Large shapes, and fine noise that only averaging removes."""
    noise = torch.rand(3, height, width) * 100 - 50
    return (_smooth(3, height, width, 0, 255) * 0.6 + 51 + noise).clamp(0, 255).to(torch.uint8)


def _resized(square, side, **how):
    how = {"mode": "bilinear", "antialias": True, **how}
    return F.interpolate(square[None].float(), size=(side, side), **how)[0]


def _preparations(pixels, mean, std):
    """The right input first, then (input, words, hint) of typical mistakes."""
    (height, width), side = pixels.shape[-2:], mean.shape[-1]
    edge, longer = min(height, width), max(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = pixels[:, top : top + edge, left : left + edge]
    small = _resized(square, side)

    def done(picture):
        return (picture - mean) / std

    def cut(rows, columns):
        return done(_resized(pixels[:, rows, columns], side))

    t, l = (height - side) // 2, (width - side) // 2  # noqa: E741
    step = torch.arange(side) * edge // side
    right = done(small)
    flat = mean.mean((1, 2), keepdim=True)
    how = {"mode": "bilinear", "antialias": True}
    whole = F.interpolate(square[None], size=(side, side), **how)[0]  # stays uint8
    unsigned = (whole - mean.to(torch.uint8)).float()
    ways = [
        (right,),
        (done(pixels[:, t : t + side, l : l + side]), "a small piece was cut out of the middle; "
         "cut the largest square and make it smaller", 1),
        (done(_resized(square, side, antialias=False)), "it was made smaller without averaging, so "
         "that most pixels were ignored", 1),
        (done(_resized(square, side, mode="nearest", antialias=False)), "it takes one pixel and "
         "drops its neighbours; average them", 1),
        (done(square[:, step][:, :, step]), "it takes one pixel and drops its neighbours; average "
         "them", 1),
        (done(_resized(square, side, mode="bicubic")), "it was made smaller by `bicubic`; "
         "`smaller` takes `bilinear`", 1),
        (done(F.adaptive_avg_pool2d(square.float(), side)), "it was averaged over boxes, all "
         "pixels alike; `smaller` gives those in the middle more weight (`bilinear`)", 1),
        (done(_resized(square, side, align_corners=True)), "the corners were aligned "
         "(`align_corners=True`), which `smaller` does not", 1),
        (small / std, "the mean picture was not subtracted", 2),
        ((small + mean) / std, "the mean picture was added; it must be subtracted", 2),
        ((small - mean / 255) / std, "the mean picture was brought to 0 ... 1, and the pixel "
         "values were not", 2),
        (small - mean, "the result was not divided by `std`", 2),
        ((small - mean) * std, "it was multiplied by `std`; divide by it", 2),
        ((small - mean) / std**2, "it was divided by `std` twice, or by its square", 2),
        (small, "neither mean nor std was used", 2),
        (small / 255, "it runs from 0 to 1; neither mean nor std was used", 2),
        ((small / 255 - mean) / std, "pixel values were brought to 0 ... 1, but mean and std count "
         "from 0 to 255", 2),
        (right / 255, "it was divided by 255 as well; mean and std count from 0 to 255", 2),
        (small / std - mean, "it was divided by std *before* the mean was subtracted", 2),
        ((small - small.mean()) / small.std(), "the picture's own mean and std were used instead "
         "of the given ones", 2),
        ((small - small.mean()) / std, "the picture's own mean was subtracted, not `mean`", 2),
        ((small - small.mean((1, 2), keepdim=True)) / std, "the picture's own mean was subtracted, "
         "not `mean`", 2),
        ((small - mean) / small.std((1, 2), keepdim=True), "it was divided by the picture's own "
         "std, not by `std`", 2),
        (done(small.mean(0, keepdim=True).expand(3, -1, -1)), "the picture has lost its colours",
         1),
        ((small - mean) / small.std(), "it was divided by the picture's own std, not by `std`", 2),
        ((small - flat) / std, "one mean for each channel was subtracted; `mean` is a picture, and "
         "has one for every place", 2),
        ((small - mean.mean()) / std, "one mean for all was subtracted; `mean` is a picture, and "
         "has one for every place", 2),
        (unsigned / std, "it was subtracted in uint8, in which nothing is below 0: what is less "
         "than the mean comes out large", 2),
        (right.clamp(-1, 1), "values beyond -1 and 1 were cut off; nothing is cut off here", 2),
        (right.clamp(0, 1), "values beyond 0 and 1 were cut off; nothing is cut off here", 2),
        (right.relu(), "values below 0 were cut off; nothing is cut off here", 2),
        ((small.flip(0) - mean) / std, "red and blue have changed places", 1),
        (done(small.transpose(1, 2)), "rows and columns have changed places", 1),
        (done(small.flip(2)), "it is mirrored: left and right have changed places", 1),
        (done(small.flip(1)), "it is upside down", 1),
    ]  # fmt: skip
    if height != width:
        s = slice
        dy, dx = (longer - height) // 2, (longer - width) // 2
        padded = F.pad(pixels, (dx, longer - width - dx, dy, longer - height - dy))
        corner = "the square was cut from a corner, not from the middle"
        ways += [
            (cut(s(None), s(None)), "the whole picture was squeezed; cut out its middle square "
             "first", 1),
            (cut(s(edge), s(edge)), corner, 1),
            (cut(s(-edge, None), s(-edge, None)), corner, 1),
            (done(_resized(padded, side)), "the picture was padded to its longer side; cut it to "
             "its shorter one", 1),
            (cut(s(left, left + edge), s(top, top + edge)), "the two offsets of the square have "
             "changed places", 1),
        ]  # fmt: skip
        if height > width:
            off = (width - height) // 2
            wrong = pixels[:, :, off : off + height]
        else:
            off = (height - width) // 2
            wrong = pixels[:, off : off + width]
        other = "broad" if height > width else "tall"
        ways.append((done(_resized(wrong, side)), f"it was cut as if it were {other}: which side "
                     "is the shorter one depends on the picture", 1))  # fmt: skip
    return ways


# 8.2


@exercise(
    "8.2",
    expects="a function of feature maps, weight and class",
    right="the mean of your map, plus the bias, is the network's output, for all shapes and "
    "classes tried.",
)
def class_map(attempt):
    """A function: (maps (C, h, w), weight (classes, C), kind) -> (h, w)."""
    for kind in ("middle", "first", "last"):
        channels, height, width = random.sample(range(5, 13), 3)
        classes = channels if kind == "middle" else random.randrange(4, 9)
        kind = {"middle": random.randrange(1, classes - 1), "first": 0, "last": classes - 1}[kind]
        maps, weight, wanted = _maps(channels, height, width, classes, kind)
        while (
            not wanted.min() < -0.05 < 0.05 < wanted.max()
            or _likeliest(maps, weight) == kind
            or _same_class_everywhere(maps, weight)
        ):
            maps, weight, wanted = _maps(channels, height, width, classes, kind)
        got = _class_map(attempt, maps, weight, kind)
        known = _known_maps(wanted, maps, weight, kind)
        judge(got, wanted, "the map", _factor(got, wanted, known, 1e-5), 2, 1e-5)


def _factor(got, wanted, known, tolerance):
    """One more known mistake, if it is none of them: right up to a factor."""
    words = proportion(got, wanted, tolerance)
    if words is None or any(same(got, value, tolerance) for value, *_ in known):
        return known
    return [*known, (got, words)]


def _maps(channels, height, width, classes, kind):
    maps = torch.rand(channels, height, width, dtype=torch.double)
    weight = torch.randn(classes, channels, dtype=torch.double)
    weight[:, :2], weight[:, 2:4] = 0.3 + weight[:, :2].abs(), -0.3 - weight[:, 2:4].abs()
    return maps, weight, torch.einsum("chw,c->hw", maps, weight[kind])


def _likeliest(maps, weight):
    return (weight @ maps.mean((1, 2))).argmax()


def _same_class_everywhere(maps, weight):
    return len(torch.einsum("chw,kc->khw", maps, weight).argmax(0).unique()) == 1


def _class_map(attempt, maps, weight, kind):
    """What comes back, (h, w); shapes that typical mistakes give have their own words."""
    (channels, height, width), classes = maps.shape, len(weight)
    try:
        got = call(attempt, maps, weight, kind, hint=1)
    except RuntimeError as error:
        said = str(error)
        if "invalid for input" in said:
            why = "a size is written in; take sizes from `maps.shape`"
        elif "must match the size" in said:
            why = "the class's weights need two more dimensions, (C, 1, 1), to meet the channels"
        else:
            raise
        raise Mistake(f"The code stopped, since sizes do not fit: {why}.", 2) from error
    shapes = {
        (): "one number for the whole picture; there should be one for each place, (h, w)",
        (channels,): "one number for each channel, (C,): the sum goes over the channels alone",
        (width,): "a row, (w,): the sum goes over the channels alone, not over the height",
        (height,): "a column, (h,): the sum goes over the channels alone, not over the width",
        (height * width,): "a flat list of places; give it the shape (h, w) again",
        (1, height, width): "(1, h, w), a dimension too many: the map is (h, w)",
        (1, 1, height, width): "(1, 1, h, w), two dimensions too many: the map is (h, w)",
        (width, height): "(w, h): the height comes first",
        (channels, height, width): "(C, h, w), a map for each channel; they have to be added up",
    }
    if channels == classes:
        shapes[channels, height, width] = (
            "a map for each channel or each class; one map is asked for, (h, w): of the class, "
            "the sum over the channels"
        )
    else:
        shapes[classes, height, width] = "a map for every class; one is asked for"
    shape = tuple(got.shape) if isinstance(got, torch.Tensor) else None
    if shape in shapes and height != width:
        raise Mistake(f"That is {shapes[shape]}.", 2)
    return tensor(got, (height, width), "the map", 1)


def _known_maps(wanted, maps, weight, kind):
    height, width = wanted.shape
    row, mean = weight[kind], maps.mean((1, 2), keepdim=True)

    def weighed(numbers, of=maps):
        return torch.einsum("chw,c->hw", of, numbers)

    others = [i for i in range(len(weight)) if i != kind]
    known = [
        (wanted.relu(), "negative values were set to 0, so its mean is no longer the output", 2),
        (wanted / (height * width), "its *sum* gives the output; its mean should", 2),
        (wanted * height * width, "it was multiplied by the number of places; its mean is then too "
         "large by that", 2),
        (wanted / len(maps), "the channels were averaged; they have to be added up", 2),
        (maps.mean(0), "the maps were averaged without weights", 1),
        (maps.sum(0), "the maps were added up without weights", 1),
        ((maps * row[:, None, None]).max(0).values, "of the weighed maps the largest was taken at "
         "every place; they have to be added up", 1),
        (wanted.abs(), "the signs are lost; evidence against counts, too", 2),
        (wanted.flatten().softmax(0).view_as(wanted), "softmax changes the values", 2),
        ((wanted - wanted.min()) / (wanted.max() - wanted.min()), "it was stretched to 0 ... 1", 2),
        (wanted / wanted.abs().max(), "it was divided by its largest value", 2),
        (wanted - wanted.mean(), "its mean was subtracted, and that is the output", 2),
        (weighed(row, maps.reshape(height, width, -1).permute(2, 0, 1)), "a `reshape` has mixed "
         "channels and places; to change the order of axes takes a `permute`", 2),
        (weighed(row.abs()), "the weights lost their signs", 2),
        (weighed(row.clamp(min=0)), "only the channels with a positive weight are in it; evidence "
         "against counts, too", 2),
        (weighed(row.clamp(max=0)), "only the channels with a negative weight are in it", 2),
        (weighed(row**2), "the weights were squared", 2),
        (weighed(row.softmax(0)), "softmax changes the weights; take them as they are", 2),
        (weighed(row / row.norm()), "the weights were divided by their length", 2),
        (weighed(row / row.sum()), "the weights were divided by their sum", 2),
        (weighed(row, (maps - mean).relu()), "the maps were changed before they were weighed: "
         "their means were subtracted, and negative values set to 0", 2),
        (wanted + row.sum(), "the sum of the weights was added to every place", 2),
        (torch.einsum("chw,kc->khw", maps, weight).max(0).values, "at every place the largest of "
         "all classes' maps was taken", 2),
        (weighed(weight.mean(0)), "all classes' weights were used", 2),
        (weighed(weight.sum(0)), "all classes' weights were used", 2),
        (weighed(row - weight.mean(0)), "the mean weights of all classes were subtracted", 2),
        *((weighed(weight[i]), "those are another class's weights", 2) for i in others),
    ]  # fmt: skip
    if len(weight) == len(maps):
        column = "a *column* of the weight was used; a class has a row"
        known.append((weighed(weight[:, kind]), column, 2))
    return known


# 8.3


@exercise(
    "8.3",
    expects="a function that changes the network it is given",
    right="after five training steps from either mode, the head has learned and the body is as it "
    "was, statistics included.",
)
def train_head_only(attempt):
    """A function: network -> None. In place: ready for training the head `fc` alone."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.", None)
    for mode in (True, False):
        network = resnet.cifar_resnet(8)
        network.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10))
        for norm in _norms(network).values():  # nothing in the body has its first value
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
        network(torch.randn(16, 3, 8, 8) + 1)
        network.train(mode)
        came = f"For a network that came in {'training' if mode else 'evaluation'} mode"
        before, head = copied(network), network.fc
        attempt(network)
        _judge_untouched(before, network, head, came)
        _judge_learning(network, came)
        _judge_modes(network, came)
        _five_steps(network)
        old, new = before.state_dict(), network.state_dict()
        moved = {name for name in old if not torch.equal(old[name], new[name])}
        body = sorted(name for name in moved if not name.startswith("fc."))
        expect(not body, f"{came}: after five training steps `{' '.join(body[:1])}` has moved.", 1)
        expect("fc.1.weight" in moved, f"{came}: after five training steps the head is as before.")


def _judge_untouched(before, network, head, came):
    replaced = "The head was replaced by another one; it is trained as it is, with its dropout."
    expect(network.fc is head and isinstance(head[0], nn.Dropout), replaced)
    expect(head[0].p == 0.5, "The head's dropout has another probability now.")
    old, new = before.state_dict(), network.state_dict()
    expect(old.keys() == new.keys(), "The function gave the network other layers.")
    moved = [name for name in old if not torch.equal(old[name], new[name])]
    statistics = moved and all(name.split(".")[-1] in BUFFERS for name in moved)
    expect(
        not statistics,
        "The function itself changed the running statistics of batch norm: they belong to what was "
        "learned, and stay.",
        1,
    )
    expect(not moved, "The function itself changed weights; it only prepares.", 1)

    def state(of):
        modes = [module.training for module in of.modules()]
        return modes, [p.requires_grad for p in of.parameters()]

    expect(
        state(before) != state(network),
        f"{came}, nothing has changed in it, neither a mode nor a `requires_grad`: set them in the "
        "network you are given, not in a copy.",
        1,
    )


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def _judge_learning(network, came):
    named = dict(network.named_parameters())
    norms = _norms(network)
    learns = {name for name, p in named.items() if p.requires_grad}
    head = {name for name in named if name.startswith("fc.")}
    body = named.keys() - head
    expect(learns, "No parameter requires a gradient: nothing can learn.", 1)
    expect(
        learns != body,
        "It is the wrong way round: the body's parameters require a gradient, the head's do not.",
        1,
    )
    asleep = sorted(head - learns)
    expect(not asleep, f"Of the head, `{asleep[0] if asleep else ''}` requires no gradient.", 1)
    expect(
        learns != named.keys() or any(norm.training for norm in norms.values()),
        "The body's parameters still require a gradient: evaluation mode does not stop learning.",
        1,
    )
    expect(learns != named.keys(), "The body's parameters still require a gradient: the body "
           "will learn.", 1)  # fmt: skip
    affine = {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}
    still = learns - head
    expect(
        still != affine,
        "The γ and β of batch norm still require a gradient: they belong to the body.",
        1,
    )
    expect(
        not still or still != {name for name in affine if name.endswith("bias")},
        "The β of batch norm, its `bias`, still requires a gradient: it belongs to the body.",
        1,
    )
    first = next((name for name in named if name in still), "")
    expect(not still, f"Of the body, `{first}` still requires a gradient.", 1)


def _norms(network):
    """The body's batch norms by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not name.startswith("fc")
    }


def _judge_modes(network, came):
    norms = _norms(network)
    awake = [name for name, norm in norms.items() if norm.training]
    if awake:
        before = {name: norms[name].running_mean.clone() for name in awake}
        with torch.no_grad():
            network(torch.randn(16, 3, 8, 8) + 1)
        moved = any(not torch.equal(before[name], norms[name].running_mean) for name in awake)
        which = "batch norm" if len(awake) == len(norms) else f"the batch norm `{awake[0]}`"
        expect(
            moved,
            f"{came}, {which} is in training mode: its running mean stands still now, but "
            "each picture's features depend on the batch it comes in.",
            2,
        )
        some = (
            ""
            if len(awake) == len(norms)
            else "; others are in evaluation mode, and all have to be"
        )
        expect(
            False,
            f"{came}, {which} is in training mode: its running statistics move with every batch, "
            f"without any gradient{some}.",
            2,
        )
    expect(
        network.fc[0].training,
        f"{came}, the head's dropout is in evaluation mode: it does nothing while the head learns.",
        2,
    )


def _five_steps(network):
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        outputs = network(torch.randn(16, 3, 8, 8) + 1)
        F.cross_entropy(outputs, torch.randint(0, 10, (16,))).backward()
        optimizer.step()


# 8.4

SETTINGS = ("out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")


@exercise(
    "8.4",
    expects="a function of a convolution",
    right="on grey pictures yours gives what the old one gives for three equal channels, for "
    "several kernels, strides, paddings and dilations, with and without a bias, and the old one is "
    "as it was.",
)
def grey_stem(attempt):
    """A function: nn.Conv2d with 3 input channels -> a module for 1 channel."""
    out = random.sample(range(5, 20), 4)
    for n, size, more in (
        (out[0], 3, {"padding": 1, "bias": False}),
        (out[1], 7, {"stride": 2, "padding": 3, "bias": True}),
        (out[2], (3, 5), {"stride": (2, 1), "padding": (1, 3), "bias": True}),
        (out[3], 3, {"padding": 2, "dilation": 2, "padding_mode": "reflect", "bias": False}),
    ):
        old = nn.Conv2d(3, n, size, **more)
        _judge_stem(attempt, old)


def _judge_stem(attempt, old):
    grey = torch.rand(2, 1, 17, 14, dtype=torch.double)
    with torch.no_grad():
        wanted = copy.deepcopy(old).double()(grey.expand(-1, 3, -1, -1))
    kind = f"a kernel of {' x '.join(map(str, old.kernel_size))}"
    new = _new_stem(attempt, old, kind)
    weight = getattr(new, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.dim() == 4 and weight.shape[1] == 3:
        raise Mistake("The new convolution still wants three channels.", 1)
    expect(
        not isinstance(new, nn.Conv2d) or weight.dim() == 4,
        f"With {kind} the new weight has not the four axes that it needs, (out_channels, 1, "
        "height, width): does the sum keep the axis it goes over?",
        2,
    )
    words = _why_settings(new, old)
    try:
        with torch.no_grad():
            got = copy.deepcopy(new).double()(grey)
    except RuntimeError as error:
        if words is None:
            raise
        raise Mistake(f"With {kind} {words}.", 1) from error
    if words and not (isinstance(got, torch.Tensor) and same(got, wanted, 1e-5)):
        raise Mistake(f"With {kind} {words}.", 1)
    got = tensor(got, wanted.shape, f"the output with {kind}", 2)
    if same(got, wanted, 1e-5):
        return
    again = _new_stem(attempt, old, kind)
    for name, what in (("weight", "kernel"), ("bias", "bias")):
        first, second = getattr(new, name, None), getattr(again, name, None)
        fresh = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
        if fresh and not torch.equal(first, second):
            raise Mistake(f"With {kind} the {what} is a new one, another one at every call: it has "
                          "to be made from the old one's.", 2)  # fmt: skip
    known = _factor(got, wanted, _known_stems(old, grey), 1e-5)
    judge(got, wanted, f"the output with {kind}", known, 2, 1e-5)


def _new_stem(attempt, old, kind):
    try:
        new = call(attempt, old, leave="all")
    except RuntimeError as error:
        said = str(error)
        if "must match" not in said and "doesn't match" not in said:
            raise
        raise Mistake(
            f"With {kind} the code stopped, since shapes do not fit: the new weight has the shape "
            "(out_channels, 1, height, width), with the old one's `out_channels` and "
            "`kernel_size`, and the sum goes over axis 1.",
            1,
        ) from error
    except (TypeError, AttributeError) as error:
        expect(
            old.bias is not None or "NoneType" not in str(error),
            f"With {kind}, which has no bias, the code stopped: `conv.bias` is None there.",
            1,
        )
        raise
    expect(isinstance(new, nn.Module), f"Expected a module, got {show(new)}.", 1)
    return new


def _why_settings(new, old):
    """Which settings of a convolution are not the old one's, in words, or None."""
    if not isinstance(new, nn.Conv2d):
        return None
    other = [f"`{name}`" for name in SETTINGS if getattr(new, name) != getattr(old, name)]
    if other:
        last = " and ".join([", ".join(other[:-1]), other[-1]] if other[1:] else other)
        return f"the new convolution has another {last} than the old one"
    if (new.bias is None) != (old.bias is None):
        return "the bias is missing" if new.bias is None else \
            "the new convolution has a bias, and the old one has none"  # fmt: skip
    return None


def _known_stems(old, grey):
    old = copy.deepcopy(old).double().requires_grad_(False)
    weight, bias = old.weight, old.bias
    total = weight.sum(1, keepdim=True)

    def out(kernel, bias=bias):
        new = copy.deepcopy(old)
        new.in_channels, new.weight = 1, nn.Parameter(kernel.contiguous(), requires_grad=False)
        new.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        return new(grey)

    light = torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)[None, :, None, None]
    known = [
        (out(total / 3), "the kernels were averaged, so it is a third of it; three equal channels "
         "add up"),
        (out(total / 3**0.5), "the sum of the kernels was divided by the root of 3; three equal "
         "channels just add up"),
        (out((weight * light).sum(1, keepdim=True)), "the weights of brightness are for *pixels*; "
         "here the kernels count equally"),
        (out(weight.amax(1, keepdim=True)), "at every place the largest of the three was taken; "
         "they add up"),
        (out(weight.amin(1, keepdim=True)), "at every place the smallest of the three was taken; "
         "they add up"),
        (out(weight.median(1, keepdim=True).values), "at every place the middle one of the three "
         "was taken; they add up"),
        (out(weight.abs().mean(1, keepdim=True)), "the kernels lost their signs"),
        (out(weight.abs().sum(1, keepdim=True)), "the kernels lost their signs"),
        (out(weight.prod(1, keepdim=True)), "the three kernels were multiplied; they add up"),
        (out(weight.square().sum(1, keepdim=True).sqrt()), "the root of the squares was taken; the "
         "kernels add up"),
        (out(total.flip(2, 3)), "the kernel was flipped"),
        (out(0 * total), "the kernel is 0 everywhere"),
    ]  # fmt: skip
    for i in range(3):
        one = weight[:, i : i + 1]
        dropped = "one channel's kernel was kept and the other two were dropped"
        known += [
            (out(one), dropped),
            (out(3 * one), "one channel's kernel stands for all three; each has its own"),
            (out(total - one), "one of the three kernels is missing"),
        ]
    if weight.shape[2] == weight.shape[3]:
        known.append((out(total.mT), "rows and columns of the kernel have changed places"))
    if bias is not None:
        known += [
            (out(total, None), "the bias is missing"),
            (out(total, 0 * bias), "the bias is 0, not the old one's"),
            (out(total, 3 * bias), "the bias was multiplied by 3; it is added once, however many "
             "channels come in"),
            (out(total, bias / 3), "the bias was divided by 3; it stays as it is"),
        ]  # fmt: skip
    zero = "the bias is missing", "the bias is 0, not the old one's"  # one and the same output
    return [(value, "the bias is missing or 0" if words in zero else words)
            for value, words in known]  # fmt: skip


# 8.5


class _Small(nn.Module):
    """Names and shapes at the edge of what can be mistaken; it computes nothing."""

    def __init__(self, rows=3, columns=5, wide=4):
        super().__init__()
        self.stem = nn.Linear(columns, rows, bias=False)
        self.body = nn.ModuleDict({"module": nn.Linear(6, 6)})
        self.scale = nn.BatchNorm1d(wide)
        self.fc = nn.Linear(2, 3)


@exercise(
    "8.5",
    expects="a function of network and state dict",
    right="what fits is loaded, buffers included, the rest is untouched and named; with another "
    "head, another stem, entries missing and too many, `module.` before all or some of the names, "
    "and with nothing amiss.",
)
def load_what_fits(attempt):
    """A function: (network, state) -> the names in the network that kept their own values."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.", None)
    full = _trained(resnet.cifar_resnet(8))
    gone = {"layer3.0.conv2.weight"}
    mixed = {}
    for i, (name, value) in enumerate(full.items()):
        if name not in gone:
            mixed[name] = value
        if i == 4:
            mixed["extra.weight"] = torch.zeros(1)
    prefix = {f"module.{name}": value for name, value in full.items()}
    some = {f"module.{n}" if n.startswith("layer2") else n: v for n, v in full.items()}
    turned = _trained(_Small(5, 3))
    narrow = _trained(_Small(wide=1))
    head = {"fc.weight", "fc.bias"}
    for what, network, state, misfits in (
        ("a head for 4 classes, a convolution missing and an entry too many",
         resnet.cifar_resnet(8, num_classes=4), mixed, head | gone),
        ("nothing amiss", resnet.cifar_resnet(8), full, set()),
        ("one input channel", resnet.cifar_resnet(8, in_channels=1), full, {"conv1.weight"}),
        ("`module.` before every name", resnet.cifar_resnet(8), prefix, set()),
        ("`module.` before some of the names", resnet.cifar_resnet(8), some, set()),
        ("a small network of other layers", _Small(), turned, {"stem.weight"}),
        ("entries of one number in place of four", _Small(), narrow,
         {f"scale.{name}" for name in ("weight", "bias", *BUFFERS[:2])}),
    ):  # fmt: skip
        _judge_loading(attempt, f"With {what}", network, state, misfits)


def _trained(network):
    """Its state, nothing at its first value."""
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(torch.rand_like(value) if value.is_floating_point() else 7)
    return {name: value.clone() for name, value in network.state_dict().items()}


def _judge_loading(attempt, what, network, state, misfits):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kept = {name: value.clone() for name, value in state.items()}
    try:
        names = attempt(network, state)
    except RuntimeError as error:
        said = str(error)
        expect(
            "size mismatch" not in said,
            f"{what} loading stopped at another shape: `strict=False` forgives missing and "
            "unexpected names, never shapes. An entry fits if the whole shapes are equal.",
            1,
        )
        expect(
            "Unexpected key" not in said and "Missing key" not in said,
            f"{what} strict loading stopped at a name that only one side has.",
            1,
        )
        raise
    expect(names is not None, "The function returned None: does it end with `return`?", None)
    if list(state) != list(kept):
        raise Mistake("The function changed the state dict that it was given: its names are others "
                      "now.", 2)  # fmt: skip
    as_before(kept, state, 2, strict=False)
    after = network.state_dict()
    expect(after.keys() == before.keys(), "The network has other names now than before.", 1)
    kinds = [name for name in before if after[name].dtype != before[name].dtype]
    expect(not kinds, "The network's numbers have another dtype now than before.", 1)
    source = {name.removeprefix("module."): value for name, value in state.items()}
    fits = [name for name in source if name in before and name not in misfits]
    left = [name for name in fits if not torch.equal(after[name], source[name])]
    got = _names(names)
    if left:
        raise Mistake(f"{what} {_why_left(what, left, fits, list(source), before, got, misfits)}.",
                      1)  # fmt: skip
    for name in before:
        if name in misfits and not torch.equal(after[name], before[name]):
            how = "cut or spread to fit"
            if name in source and source[name].numel() == before[name].numel():
                how = "its numbers have the places of another shape"
            raise Mistake(f"{what} `{name}` does not fit and was changed all the same: {how}.", 1)
    _judge_names(got, what, misfits, fits, state, before)


def _names(names):
    good = isinstance(names, Iterable) and not isinstance(names, str | bytes | dict)
    good = good and not hasattr(names, "missing_keys") and not isinstance(names, torch.Tensor)
    expect(good, f"Expected the names that kept their values, got {show(names)}.", 2)
    names = list(names)
    good = all(isinstance(name, str) for name in names)
    expect(good, "Expected names, and something else is among what was returned.", 2)
    return names


def _why_left(what, left, fits, order, before, got, misfits):
    """Words for fitting entries that were not loaded."""
    letters = [name for name in fits if name[0] in "module."]
    buffers = [name for name in fits if name.split(".")[-1] in BUFFERS]
    counters = [name for name in buffers if name.endswith("tracked")]
    first = next((i for i, name in enumerate(order) if name not in fits), len(order))
    if set(left) >= set(fits) - set(counters):
        if "before every name" in what:
            return "nothing was loaded: the names differ by that beginning"
        if set(got) == misfits:
            return "the returned names are right, and nothing in the network has changed: load " \
                "into the network you were given, not into a copy"  # fmt: skip
        if set(got) == set(before):
            return "no entry was found: names without `module.` at the beginning stay as they are"
        return "nothing was loaded: copy what fits into the network"
    if set(left) == set(counters):
        return "`num_batches_tracked`, a tensor without dimensions, was not loaded"
    if set(left) == set(buffers):
        return "the weights are loaded, and batch norm's buffers are not: running statistics and " \
            "counters are no parameters"  # fmt: skip
    if set(left) == set(buffers) - set(counters):
        return "the running statistics of batch norm are not loaded: they belong to the network, " \
            "too"  # fmt: skip
    if set(left) == {name for name in fits if name in order[first:]}:
        return "loading ended at the first entry that does not fit"
    if set(left) == set(letters):
        return "just those names were left out that begin with one of the letters of `module.`: " \
            "`lstrip` takes off letters, `removeprefix` a beginning"  # fmt: skip
    if "before some" in what:
        return "some were not loaded: each name has to be looked at by itself"
    if all(".module." in name for name in left):
        return "an entry with `module.` in the *middle* of its name was not loaded: ignore it at " \
            "the beginning alone"  # fmt: skip
    return f"`{left[0]}` fits and was not loaded"


def _judge_names(got, what, wanted, fits, state, before):
    named = set(got)
    if named == wanted and len(got) == len(named):
        return
    short = {name.removeprefix("module.") for name in state}
    missing, extra = set(before) - short, short - set(before)
    shapes = wanted - missing
    full = {f"module.{name}" for name in wanted}
    for value, why in (
        (wanted, "a name is among them twice"),
        (set(fits), "those are the ones that *were* loaded"),
        (set(before), "those are all the network has"),
        (set(), "the list is empty, though not everything fitted"),
        (missing, "those whose shape is another one are left out"),
        (shapes, "those that `state` does not have are left out"),
        (full, "they are names with `module.` in front, and the network's have none"),
        (shapes | extra, "those are the entries of `state` that were left over; names in the "
         "*network* are asked for"),
        (missing | extra, "those are the names that one side alone has: the network's with another "
         "shape are missing, and what the network does not have is among them"),
        (extra, "those are the names that `state` has too many; names in the *network* are asked "
         "for"),
        (wanted | extra, "a name that the network does not have is among them"),
    ):  # fmt: skip
        if named == value:
            raise Mistake(f"{what} the returned names are not right: {why}.", 2)
    if named - set(before):
        raise Mistake(f"{what} the returned names are not right: one that the network does not "
                      "have is among them.", 2)  # fmt: skip
    what_else = "one that was loaded is among them" if named - wanted else "one is missing"
    raise Mistake(f"{what} the returned names are not right: {what_else}.", 2)


# 8.6

CAUSES = ("training mode", "preparation", "drift", "rate", "not loaded")
TRUTH = {"A": "not loaded", "B": "training mode", "C": "rate", "D": "preparation", "E": "drift"}


@exercise(
    "8.6",
    expects='a dictionary like {"A": "drift", ...}',
    right="five patients, five causes; each has one line that mends it, in the table above.",
)
def diagnose(attempt):
    """A dictionary: each patient's letter -> one of `CAUSES`."""
    evidence = {
        "A": "an error as by guessing, before anything was trained, says that the weights are the "
        "random ones",
        "B": "only batch statistics make one picture's answer depend on the others",
        "C": "the two trainings of all layers have start, inputs and mode in common, and differ in "
        "one number",
        "D": "on the authors' own inputs it works, so the network is whole and its mode is right",
        "E": "the old head is the old one, the weights are equal, and still the error rose: "
        "what moved is no parameter",
    }
    evidence |= {
        ("A", "training mode"): "`eval()` was called",
        ("A", "drift"): "nothing was trained, so no running statistics have moved",
        ("A", "rate"): "nothing was trained, so no rate was ever used",
        ("E", "training mode"): "the network is in evaluation mode",
        ("E", "not loaded"): "every weight of the body is equal to the file's",
    }
    words = choices(attempt, list(TRUTH), CAUSES, "patient")
    for letter, cause in TRUTH.items():
        word = words[letter]
        why = evidence.get((letter, word), evidence[letter])
        expect(word == cause, f'Patient {letter} is not "{word}": {why}.', 1 if letter in "AB"
               else 2)  # fmt: skip


QUIZ = [
    Question(
        "A network for ten kinds of things is shown a photograph of a teapot. What comes out?",
        [
            (
                "Ten probabilities that add up to 1.",
                "Often with one far ahead: softmax shares out 100 % among the kinds there are. "
                "Sure is not right.",
            ),
            (
                "About 10 % for each kind, since a teapot is none of them.",
                "Nothing trains a network to be undecided about what it has never seen; this "
                "chapter's blossom got a clear answer.",
            ),
            ("An error message.", "Its input is a tensor of the right shape, like any other."),
        ],
        right=0,
    ),
    Question(
        "All parameters of the body have `requires_grad=False`. The training loop calls "
        "`network.train()`. What changes in the body?",
        [
            (
                "The running means and variances of batch norm.",
                "They are buffers, moved by every "
                "forward pass in training mode, without any gradient.",
            ),
            (
                "Nothing, since no gradient reaches it.",
                "No parameter changes. But a network is more than its parameters.",
            ),
            (
                "γ and β of batch norm, a little with every batch.",
                "They are parameters: without a gradient they stay.",
            ),
        ],
        right=0,
    ),
    Question(
        "A class activation map after the last stage shows a clear spot on the dog. What does that "
        "alone tell you?",
        [
            (
                "The network has found the dog by what a dog looks like.",
                "A map for another class, or of a network with shuffled weights, can have a clear "
                "spot, too. What the places read there, a map does not tell.",
            ),
            (
                "The pixels under the spot alone have made this output.",
                "Each place of the last map looks at the whole picture: what lies elsewhere can "
                "count there as well.",
            ),
            (
                "Which places of the last map this output is the sum of; each of them can see the "
                "whole picture.",
                "The output is the mean of the map, plus a bias. Whether a map depends on what was "
                "learned is for the test with shuffled weights.",
            ),
        ],
        right=2,
    ),
    Question(
        "`load_state_dict(state, strict=False)` raised nothing. What do you know?",
        [
            (
                "That every name in the network was loaded.",
                "That is what `strict=True` would tell you.",
            ),
            (
                "That names which are in both have equal shapes.",
                "Perhaps there were none: read what it returns, `missing_keys` and "
                "`unexpected_keys`.",
            ),
            (
                "That the file belongs to this architecture, or to a larger one.",
                "A file of another network, with no name in common, loads without a word as well.",
            ),
        ],
        right=1,
    ),
]

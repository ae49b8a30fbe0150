"""Chapter 08, using a network that somebody else trained: checks and quiz."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet
from resnet_course.teaching.check import call, choice, close, exercise, expect, show, tensor
from resnet_course.teaching.quiz import Question

# 8.1


@exercise(
    "8.1",
    expects="a function of pixels, mean and std",
    right="your inputs agree for a broad and a tall picture, and for networks of two sizes.",
)
def prepare(attempt):
    """A function: (pixels uint8 (3, H, W), mean (3, S, S), std) -> (1, 3, S, S)."""
    for height, width, side in ((320, 480, 32), (400, 300, 24)):
        pixels = _picture(height, width)
        mean, std = _smooth(3, side, side, 90, 150), random.uniform(50, 70)
        got = call(attempt, pixels, mean, std, hint=2)
        shape = f"a picture of {height} x {width} pixels and a network for {side} x {side}"
        got = tensor(got, (1, 3, side, side), f"the input from {shape}", 2)[0].float()
        inner = got[:, 2:-2, 2:-2]  # at the border, cutting before or after resizing differs
        ways = _preparations(pixels, mean, std)
        away = {why: (inner - way[:, 2:-2, 2:-2]).abs().mean().item() for why, way in ways.items()}
        if away.pop("right") < 0.15:
            continue
        nearest = min(away, key=away.get)
        why = nearest if away[nearest] < 0.12 else "compare it with the four steps in the chapter"
        hint = 2 if "mean" in why or "std" in why else 1
        expect(False, f"For {shape} the input is another one than expected: {why}.", hint)


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
    """The right input, and those that typical mistakes give -> {sentence: (3, S, S)}."""
    (height, width), side = pixels.shape[-2:], mean.shape[-1]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = pixels[:, top : top + edge, left : left + edge]
    t, l = (height - side) // 2, (width - side) // 2  # noqa: E741
    small = _resized(square, side)
    own = (small - small.mean()) / small.std()
    return {
        "right": (small - mean) / std,
        "the whole picture was squeezed; cut out its middle square first": (
            _resized(pixels, side) - mean
        )
        / std,
        "the square was cut from a corner, not from the middle": (
            _resized(pixels[:, :edge, :edge], side) - mean
        )
        / std,
        "a small piece was cut out of the middle; cut the largest square and make it smaller": (
            pixels[:, t : t + side, l : l + side] - mean
        )
        / std,
        "it was made smaller without averaging, so that most pixels were ignored": (
            _resized(square, side, antialias=False) - mean
        )
        / std,
        "it takes one pixel and drops its neighbours; average them": (
            _resized(square, side, mode="nearest", antialias=False) - mean
        )
        / std,
        "the mean picture was not subtracted": small / std,
        "the result was not divided by `std`": small - mean,
        "neither mean nor std was used": small,
        "pixel values were brought to 0 ... 1, but mean and std count from 0 to 255": (
            small / 255 - mean
        )
        / std,
        "it was divided by std *before* the mean was subtracted": small / std - mean,
        "it runs from 0 to 1; neither mean nor std was used": small / 255,
        "the picture's own mean and std were used instead of the given ones": own,
        "red and blue have changed places": (small.flip(0) - mean) / std,
        "rows and columns have changed places": (small.transpose(1, 2) - mean) / std,
    }


# 8.2


@exercise(
    "8.2",
    expects="a function of feature maps, weight and class",
    right="the mean of your map, plus the bias, is the network's output, for all shapes tried.",
)
def class_map(attempt):
    """A function: (maps (C, h, w), weight (classes, C), kind) -> (h, w)."""
    for channels, height, width, classes in ((6, 3, 4, 6), (3, 5, 5, 7), (8, 1, 2, 2)):
        for kind in (0, classes - 1):
            maps = torch.rand(channels, height, width, dtype=torch.double)
            weight = torch.randn(classes, channels, dtype=torch.double)
            weight[:, 0], weight[:, 1] = weight[:, 0].abs(), -weight[:, 1].abs()  # both signs
            got = call(attempt, maps, weight, kind, hint=1)
            what = f"{channels} maps of {height} x {width} and {classes} classes"
            got = tensor(got, (height, width), f"the map from {what}", 1)
            wanted = torch.einsum("chw,c->hw", maps, weight[kind])
            if not close(got, wanted, 1e-5):
                why, hint = _why_map(got, wanted, maps, weight, kind)
                expect(False, f"The map is another one: {why}.", hint)


def _why_map(got, wanted, maps, weight, kind):
    height, width = wanted.shape
    other = (kind + 1) % len(weight)
    column = weight[:, kind] if len(weight) == len(maps) else None
    known = [
        (wanted.relu(), "negative values were set to 0, so its mean is no longer the output", 2),
        (wanted / (height * width), "its *sum* gives the output; its mean should", 2),
        (wanted / len(maps), "the channels were averaged; they have to be added up", 2),
        (maps.mean(0), "the maps were averaged without weights", 1),
        (maps.sum(0), "the maps were added up without weights", 1),
        (wanted.abs(), "the signs are lost; evidence against counts, too", 2),
        (wanted.flatten().softmax(0).view_as(wanted), "softmax changes the values", 2),
        ((wanted - wanted.min()) / (wanted.max() - wanted.min()), "it was stretched to 0 ... 1", 2),
        (wanted / wanted.abs().max(), "it was divided by its largest value", 2),
        (torch.einsum("chw,c->hw", maps, weight[kind].abs()), "the weights lost their signs", 2),
        (torch.einsum("chw,c->hw", maps, weight[other]), "those are another class's weights", 2),
        (torch.einsum("chw,c->hw", maps, weight.mean(0)), "all classes' weights were used", 2),
    ]
    if column is not None:
        column = torch.einsum("chw,c->hw", maps, column)
        known.append((column, "a *column* of the weight was used; a class has a row", 2))
    fallback = ("weigh each map with its number in the row of the class, and add them up", 2)
    return next((why for value, *why in known if close(got, value, 1e-5)), fallback)


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
        network.train(mode)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        attempt(network)
        after = network.state_dict()
        same = before.keys() == after.keys() and all(
            torch.equal(before[k], after[k]) for k in after
        )
        expect(same, "The function itself changed weights or statistics; it only prepares.", 1)
        _judge_gradients(network)
        _judge_modes(network)
        _five_steps(network)
        after = network.state_dict()
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        moved = [name for name in moved if not name.startswith("fc.")]
        expect(not moved, "After five training steps the body is another one.", 1)


def _body(network, *kinds):
    return [
        m for n, m in network.named_modules() if isinstance(m, kinds) and not n.startswith("fc")
    ]


def _judge_gradients(network):
    learns = {name for name, p in network.named_parameters() if p.requires_grad}
    head = {name for name in learns if name.startswith("fc.")}
    every = {name for name, _ in network.named_parameters()}
    norms = {name for name in learns - head if "bn" in name or "downsample.1" in name}
    expect(learns, "No parameter requires a gradient: nothing can learn.", 1)
    expect(len(head) == 2, "The head's parameters do not require a gradient: it cannot learn.", 1)
    expect(
        learns != every or any(m.training for m in _body(network, nn.BatchNorm2d)),
        "The body's parameters still require a gradient: evaluation mode does not stop learning.",
        1,
    )
    expect(
        learns != every, "The body's parameters still require a gradient: the body will learn.", 1
    )
    expect(
        learns - head != norms or not norms,
        "The γ and β of batch norm still require a gradient: they belong to the body.",
        1,
    )
    expect(learns == head, "Some of the body's parameters still require a gradient.", 1)


def _judge_modes(network):
    norms = _body(network, nn.BatchNorm2d)
    awake = [norm for norm in norms if norm.training]
    if awake:
        before = [norm.running_mean.clone() for norm in norms]
        with torch.no_grad():
            network(torch.randn(16, 3, 8, 8) + 1)
        moved = any(
            not torch.equal(a, norm.running_mean) for a, norm in zip(before, norms, strict=True)
        )
        expect(
            moved,
            "The running statistics stand still now, but batch norm is in training mode: each "
            "picture's features still depend on its batch.",
            2,
        )
        expect(
            len(awake) == len(norms),
            "Some batch norm layers are in training mode still: those inside the blocks, too, "
            "have to be in evaluation mode.",
            2,
        )
        expect(
            False,
            "Batch norm is in training mode: its running statistics move with every batch, though "
            "no parameter requires a gradient.",
            2,
        )
    expect(
        network.fc[0].training,
        "The head is in evaluation mode: its dropout does nothing while it learns.",
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


@exercise(
    "8.4",
    expects="a function of a convolution",
    right="on grey pictures yours gives what the old one gives for three equal channels, for three "
    "kinds of kernel.",
)
def grey_stem(attempt):
    """A function: nn.Conv2d with 3 input channels -> a module for 1 channel."""
    for out, size, more in (
        (16, 3, {"padding": 1, "bias": False}),
        (8, 7, {"stride": 2, "padding": 3, "bias": False}),
        (4, (3, 5), {"padding": (1, 2), "bias": True}),
    ):
        old = nn.Conv2d(3, out, size, **more).double().requires_grad_(False)
        new = call(attempt, old, hint=1)
        what = f"a kernel of {size if isinstance(size, int) else 'three by five'}"
        expect(isinstance(new, nn.Module), f"Expected a module, got {show(new)}.", 1)
        weight = getattr(new, "weight", None)
        grey = torch.rand(2, 1, 11, 13, dtype=torch.double)
        wide = isinstance(weight, torch.Tensor) and weight.dim() == 4 and weight.shape[1] == 3
        expect(not wide, "The new convolution still wants three channels.", 1)
        wanted = old(grey.expand(-1, 3, -1, -1))
        with torch.no_grad():
            got = tensor(new.double()(grey), wanted.shape, f"the output with {what}", 2)
        why = _why_stem(got, wanted, old, grey)
        expect(close(got, wanted, 1e-5), f"With {what} the output is another one: {why}.", 2)


def _why_stem(got, wanted, old, grey):
    def alike(weight, bias=old.bias):
        out = F.conv2d(grey, weight, bias, old.stride, old.padding)
        return close(got, out, 1e-5)

    weight = old.weight
    light = torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)[None, :, None, None]
    if old.bias is not None and alike(weight.sum(1, keepdim=True), None):
        return "the bias is missing"
    if alike(weight.mean(1, keepdim=True)):
        return "it is a third of it, since the kernels were averaged; three equal channels add up"
    if any(alike(weight[:, i : i + 1]) for i in range(3)):
        return "one channel's kernel was kept and the other two were dropped"
    if any(alike(3 * weight[:, i : i + 1]) for i in range(3)):
        return "one channel's kernel stands for all three; each has its own"
    if alike((weight * light).sum(1, keepdim=True)):
        return "the weights of brightness are for *pixels*; here the kernels count equally"
    if not got.any():
        return "it is 0 everywhere"
    return "its kernel does not follow from the old one's three"


# 8.5


@exercise(
    "8.5",
    expects="a function of network and state dict",
    right="what fits is loaded, buffers included, the rest is untouched and named; with another "
    "head, with one channel, with `module.` in front, and with nothing amiss.",
)
def load_what_fits(attempt):
    """A function: (network, state) -> the names in the network that kept their own values."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.", None)
    fc = {"fc.weight", "fc.bias"}
    source = _trained(resnet.cifar_resnet(8))
    wrapped = {f"module.{name}": value for name, value in source.items()}
    less = {name: value for name, value in source.items() if name != "layer3.0.conv2.weight"}
    gone = set(source) - set(less)
    for what, network, state, wanted in (
        ("a head for 4 classes", resnet.cifar_resnet(8, num_classes=4), source, fc),
        ("one input channel", resnet.cifar_resnet(8, in_channels=1), source, {"conv1.weight"}),
        ("`module.` before every name", resnet.cifar_resnet(8), wrapped, set()),
        ("a state dict that lacks a convolution", resnet.cifar_resnet(8), less, gone),
        ("a state dict that fits", resnet.cifar_resnet(8), source, set()),
    ):
        _judge_loading(attempt, what, network, state, wanted)


def _trained(network):
    """Its state, nothing at its first value, and one entry that no network of ours has."""
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.rand_like(parameter))
        network(torch.randn(16, 3, 8, 8) + 1)
    return network.state_dict() | {"extra.weight": torch.zeros(1)}


def _judge_loading(attempt, what, network, state, wanted):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = dict(state)
    wanted = wanted & set(before)
    try:
        names = attempt(network, state)
    except RuntimeError as error:
        expect(
            "size mismatch" not in str(error),
            f"With {what} loading stopped at another shape: `strict=False` forgives missing and "
            "unexpected names, never shapes.",
            1,
        )
        expect(
            "Unexpected key" not in str(error) and "Missing key" not in str(error),
            f"With {what} strict loading stopped at a name that only one side has.",
            1,
        )
        raise
    expect(names is not None, "The function returned None: does it end with `return`?", None)
    unchanged = given.keys() == state.keys() and all(given[k] is state[k] for k in state)
    expect(unchanged, "The function changed the state dict that it was given.", 2)
    after, source = network.state_dict(), {k.removeprefix("module."): v for k, v in state.items()}
    fits = set(before) - wanted
    loaded = {name for name in fits if torch.equal(after[name], source[name])}
    buffers = {name for name in fits if "running" in name or "num_batches" in name}
    keeps = all(torch.equal(after[name], before[name]) for name in wanted)
    expect(
        loaded - buffers or "module." not in what,
        f"With {what} nothing was loaded: the names differ by that beginning.",
        2,
    )
    expect(loaded - buffers, f"With {what} nothing was loaded: copy what fits into the network.", 1)
    expect(
        not (buffers - loaded),
        f"With {what} the weights are loaded, and the running statistics of batch norm are not: "
        "they are buffers, no parameters.",
        2,
    )
    left = sorted(fits - loaded)
    expect(not left, f"With {what} an entry that fits was not loaded: {', '.join(left[:1])}.", 1)
    expect(keeps, f"With {what} an entry that does not fit was changed all the same.", 1)
    _judge_names(names, what, wanted, fits)


def _judge_names(names, what, wanted, fits):
    good = isinstance(names, list | tuple | set | frozenset)
    good = good and not hasattr(names, "missing_keys")
    expect(good, f"Expected a list of names, got {show(names)}.", 2)
    got = {str(name) for name in names}
    if got == wanted and len(names) == len(got):
        return
    reason = "name what kept its own values, each once"
    if got and got == fits:
        reason = "those are the ones that *were* loaded"
    elif "extra.weight" in got:
        reason = "an entry that the network does not have is among them"
    elif not got:
        reason = "the list is empty, though not everything fitted"
    elif any(name.startswith("module.") for name in got):
        reason = "they are names of the file, not of the network"
    expect(False, f"With {what} the returned names are not right: {reason}.", 2)


# 8.6

CAUSES = ("training mode", "preparation", "drift", "rate", "not loaded")


@exercise(
    "8.6",
    expects='a dictionary like {"A": "drift", ...}',
    right="five patients, five causes; each has one line that mends it, in the table above.",
)
def diagnose(attempt):
    """A dictionary: each patient's letter -> one of `CAUSES`."""
    truth = dict(
        zip("ABCDE", ("not loaded", "training mode", "rate", "preparation", "drift"), strict=True)
    )
    kind = type(attempt).__name__
    expect(isinstance(attempt, dict), f"Expected a dictionary, got a {kind}.", None)
    absent = ", ".join(letter for letter in truth if letter not in attempt)
    expect(not absent, f"Expected a cause for each of A to E; {absent} is missing.", None)
    evidence = {
        "A": "an error as by guessing, before anything was trained, says that the weights are the "
        "random ones",
        "B": "only batch statistics make one picture's answer depend on the others",
        "C": "the frozen features are good, so the network and its inputs are, too; it is training "
        "on that spoils them",
        "D": "on the authors' own inputs it works, so the network is whole and its mode is right",
        "E": "the old head is the old one, the weights are equal, and still the error rose: "
        "what moved is no parameter",
    }
    words = {letter: choice(attempt[letter], CAUSES, f"patient {letter}") for letter in truth}
    for letter, cause in truth.items():
        sentence = f'Patient {letter} is not "{words[letter]}": {evidence[letter]}.'
        expect(words[letter] == cause, sentence, 1 if letter in "AB" else 2)


QUIZ = [
    Question(
        "A network for ten kinds of things is shown a photograph of a teapot. What comes out?",
        [
            (
                "About 10 % for each kind.",
                "Nothing trains a network to be undecided about what it has never seen; this "
                "chapter's blossom got a clear answer.",
            ),
            (
                "Ten probabilities that add up to 1, often with one far ahead.",
                "Softmax shares out 100 % among the kinds there are. Sure is not right.",
            ),
            ("An error message.", "Its input is a tensor of the right shape, like any other."),
        ],
        right=1,
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
            ("Nothing.", "No parameter changes. But a network is more than its parameters."),
            ("γ and β of batch norm.", "They are parameters: without a gradient they stay."),
        ],
        right=0,
    ),
    Question(
        "Grad-CAM at the last convolutional layer of a ResNet shows a clear spot on the dog. "
        "What does that alone tell you?",
        [
            (
                "The network knows what a dog is.",
                "A map for another class, or of a network with shuffled weights, can have a clear "
                "spot, too.",
            ),
            (
                "Nothing at all.",
                "For this layer it is exact bookkeeping: the output is the mean of the map, plus a "
                "bias.",
            ),
            (
                "From which places this output came, and not yet why.",
                "It adds up to the output. Whether a map depends on what was learned is for the "
                "test with shuffled weights.",
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
                "That names which are in both have equal shapes. Read what it returns.",
                "Perhaps there were none: `missing_keys` and `unexpected_keys` say so.",
            ),
            (
                "That the file belongs to this architecture.",
                "A file of another network, with no name in common, loads without a word as well.",
            ),
        ],
        right=1,
    ),
]

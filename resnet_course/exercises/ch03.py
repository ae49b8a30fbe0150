"""Chapter 03, the degradation problem: checks and quiz."""

import math
import random
import re
from dataclasses import replace

import torch
from torch import nn

from resnet_course import resnet, train
from resnet_course.teaching.check import (
    Mistake,
    as_before,
    call,
    choices,
    close,
    copied,
    exercise,
    expect,
    fallback,
    judge,
    number,
    tensor,
)
from resnet_course.teaching.quiz import Question

# 3.1


@exercise(
    "3.1",
    expects="a function of a network",
    right="your count agrees on plain, residual and bottleneck networks of several depths, and on "
    "networks with no, one and several linear layers.",
)
def count_layers(attempt):
    """A function: network -> number of convolutions on the main path plus linear layers."""
    for what, network in _networks():
        try:
            got = number(call(attempt, network), f"the layers of {what}")
        except AttributeError as error:
            part = re.search(r"object has no attribute '(layer\d|fc|bn1|conv\d?|stem)'", str(error))
            expect(
                not part,
                f"Not every network has a `{part and part[1]}`: go through `named_modules()`.",
                1,
            )
            raise
        counts = _counts(network)
        wanted = counts.pop("right")
        single = {n: p.numel() for n, p in network.named_parameters()}
        main = sum(count for n, count in single.items() if "downsample" not in n)
        many = got in (sum(single.values()), main)
        expect(not many, "Those are single learned numbers; a layer holds many.", 2)
        known = [(value, words, hint) for words, (value, hint) in counts.items() if value != wanted]
        if got != wanted and got > 9:  # a smaller number can be a count
            expect(
                _tried(attempt, nn.Sequential(nn.Flatten(), nn.Linear(4, 4))) != got,
                "The same number comes for networks of different depth; count the modules.",
                1,
            )
        judge(got, wanted, f"the layers of {what}", known, 2)


def _tried(attempt, network):
    """What the answer says of another network, or None."""
    try:
        return float(attempt(network))
    except Exception:
        return None


def _networks():
    """Networks of drawn sizes. In each, the mistakes that show there give different numbers."""
    n, linears = random.randint(2, 4), 3  # with other numbers two mistakes meet
    convolved = resnet.cifar_resnet(6 * n + 2, shortcut="C")
    convolved.fc = nn.Sequential(*(nn.Linear(64, 64) for _ in range(linears)))
    several = random.choice(([2, 2, 2], [2, 2, 3], [2, 3, 2], [3, 2, 2], [3, 3, 3]))
    return [
        ("a network of convolutions alone", _convolutions(random.randint(3, 6))),
        ("a residual network with convolved shortcuts", convolved),
        ("a plain network", resnet.cifar_plain(6 * n + 2, in_channels=1)),
        (
            "a network of bottlenecks",
            resnet.ResNet(resnet.Bottleneck, [*several, 1], num_classes=10),
        ),
        ("a network of linear layers alone", nn.Sequential(nn.Flatten(), *convolved.fc)),
    ]


def _convolutions(extra):
    """Convolutions of two sizes, under names of all kinds, some of them in a part of their own."""
    inner, network = nn.Sequential(), nn.Sequential()
    for name in ("conv2", "conv3", "conv4", "other"):
        inner.add_module(name, nn.Conv2d(4, 4, 3, bias=False))
    for i in range(extra):
        inner.add_module(f"mix{i}", nn.Conv2d(4, 4, 1, bias=False))
        inner.add_module(f"act{i}", nn.ReLU())
    for name, module in (
        ("conv1", nn.Conv2d(4, 4, 3, bias=False)),
        ("stem", nn.Conv2d(4, 4, 1, bias=False)),
        ("second", nn.Conv2d(4, 4, 1, bias=False)),
        ("act", nn.ReLU()),
        ("act2", nn.ReLU()),
        ("inner", inner),
    ):
        network.add_module(name, module)
    return network


def _one_more(linears):
    if linears:
        return "one linear layer was added, however many there are"
    return "one was added that is not there; this network has no linear layer"


def _counts(network):
    """What the known mistakes count -> {words: (number, hint)}, and {"right": number}."""
    named = list(network.named_modules())
    inside = {name for name, _ in named if "downsample" in name}

    def of(*kinds, skip=()):
        return sum(isinstance(m, kinds) and name not in skip for name, m in named)

    main, linears = of(nn.Conv2d, nn.Linear, skip=inside), of(nn.Linear, skip=inside)
    norms, all_norms = of(nn.BatchNorm2d, skip=inside), of(nn.BatchNorm2d)
    layers, shortcuts = of(nn.Conv2d, nn.Linear), sum(n.endswith("downsample") for n, _ in named)
    outermost = list(network.children())
    direct = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in outermost)
    three = sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for _, m in named)
    known_names = sum(
        n.split(".")[-1].startswith("conv") or n.split(".")[-1] == "fc" for n, _ in named
    )
    blocks = sum(len(m) for name, m in network.named_children() if name.startswith("layer"))
    straight = sum(isinstance(m, nn.Conv2d) and m.stride == (1, 1) for _, m in named)
    active = of(nn.ReLU, skip=inside)
    two_levels = [m for child in outermost for m in (child, *child.children())]
    near = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in two_levels)
    return {
        "right": main,
        "not every network is made of blocks with two layers, a layer before and one behind; go "
        "through the modules": (None if blocks else 2, 1),
        "the stride does not tell the shortcuts: layers of the main path have one, and some "
        "shortcuts have none": (straight + linears if blocks and linears > 1 else None, 2),
        "activations have no weights and do not count, linear layers do": (
            main - linears + active,
            2,
        ),
        "only two levels were looked at; layers lie deeper": (
            near if blocks and near != direct else None,
            1,
        ),
        "the convolutions inside shortcuts do not count": (layers, 2),
        "batch norm has learned numbers, but is not counted as a layer": (main + norms, 2),
        "neither batch norm nor the shortcuts count": (layers + all_norms, 2),
        "the batch norms, also those inside shortcuts, are not counted as layers": (
            main + all_norms,
            2,
        ),
        "the linear layers are missing": (main - linears, 2),
        "the linear layers are missing, and shortcuts do not count": (
            layers - linears,
            2,
        ),
        "the convolutions are missing": (linears or None, 2),
        _one_more(linears): (main - linears + 1, 2),
        "a shortcut may hold a convolution or the identity, so subtracting one for each will not "
        "do": (layers - shortcuts, 2),
        "kernels of any size count, not only 3 × 3": (three + linears if three else None, 2),
        "names differ from network to network; go by the *type* of each module": (
            None if linears else known_names,
            2,
        ),
        "every module was counted, also those without weights": (len(named), 2),
        "modules without weights do not count": (len(named) - 1, 2),
        "only the outermost modules were looked at": (len(outermost), 1),
        "of the layers inside blocks none was found; look at *any* depth": (direct, 1),
        "those are parameter tensors; a layer can have two": (len(list(network.parameters())), 2),
        "those are parameter tensors, shortcuts left out; a layer can have two": (
            sum("downsample" not in n for n, _ in network.named_parameters()),
            2,
        ),
        "nothing was found; both kinds of layers count, and `named_modules()` gives pairs of name "
        "and module": (0, 2),
    }


# 3.2


@exercise(
    "3.2",
    expects="a function of channels and size",
    right="your kernels left random images unchanged, for one channel and for several, and for "
    "sizes 1, 3, 5 and 7.",
)
def identity_kernel(attempt):
    """A function: (channels, odd size) -> weight (channels, channels, size, size)."""
    cases = [(4, 5), (random.randint(4, 5), 3), (random.randint(2, 3), 7), (3, 1), (1, 3)]
    for channels, size in cases:
        try:
            weight = call(attempt, channels, size, hint=1)
        except IndexError as error:
            if "out of bounds" not in str(error):
                raise
            raise Mistake(
                f"For {channels} channels and size {size} an index lies outside the weight, which "
                "is (channels, channels, size, size); channels and pixels are counted apart.",
                1,
            ) from error
        what = f"the kernel for {channels} channel{'s' * (channels > 1)} and size {size}"
        shape = tuple(weight.shape) if isinstance(weight, torch.Tensor) else None
        one = shape == (channels, 1, size, size) and channels > 1
        expect(
            not one,
            "The weight has one input channel; every output channel has a small kernel for *each* "
            "of them.",
            1,
        )
        last = shape == (size, size, channels, channels) and channels != size
        expect(not last, "The weight has the channels last; its shape begins with them.", 1)
        weight = tensor(weight, (channels, channels, size, size), what, 1)
        image = torch.randn(2, channels, 7, 9, dtype=torch.double)
        out = nn.functional.conv2d(image, weight, padding=size // 2)
        if not close(out, image):
            why = _why_kernel(weight)
            expect(why is None, f"What comes out is not the image that came in: {why}.", 2)
            fallback(_identity(channels, size), weight, what, 2)


def _identity(channels, size):
    return nn.init.dirac_(torch.empty(channels, channels, size, size, dtype=torch.double))


def _why_kernel(weight):
    """Words for the mistake in a kernel, from what it holds, or None."""
    channels, _, size, _ = weight.shape
    middle, eye = size // 2, torch.eye(channels, dtype=weight.dtype)
    centre, rest = weight[:, :, middle, middle], weight.clone()
    rest[:, :, middle, middle] = 0
    if not weight.any():
        return "the kernel is 0 everywhere, and so is what comes out"
    if close(weight, weight.flatten()[0]) and channels > 1:
        return "with the same number everywhere it blurs the image and mixes the channels"
    line = torch.eye(size, dtype=weight.dtype)
    if size > 1 and close(weight, line.expand_as(weight)):
        return "each small kernel holds a diagonal; it needs a single 1, in its middle"
    places = weight.abs().sum((0, 1)).nonzero().tolist()
    own = close(weight.sum((2, 3)), eye)
    if own and len(places) == 1 and rest.any():
        return f"every channel's 1 lies {_named(places[0], size)}, so the image is shifted"
    everywhere = weight[range(channels), range(channels)]
    if size > 1 and close(weight.sum((2, 3)), eye * everywhere.sum((1, 2))[0]):
        if close(everywhere, everywhere.flatten()[0]):
            return "each channel adds up its neighbouring pixels; only the middle may count"
        if own:
            return "it mixes neighbouring pixels; only the middle may differ from 0"
    if rest.any():
        return "only the middle of each small kernel may differ from 0"
    if close(centre, torch.ones_like(centre)):
        return "every output channel adds up all input channels; it must take its own alone"
    if close(centre, centre * eye) and (centre.diagonal() == 0).any():
        return "some channels come out as zeros: every channel needs its own 1"
    if close(centre, centre * eye):
        return "the numbers have the right places, but their value must be 1"
    if close(centre.abs().sum(1), torch.ones(channels)):
        return "output channel i must read input channel i, and no other"
    return None


def _named(place, size):
    known = {(0, 0): "in the top left corner", (1, 1): "in row 1 and column 1, not in the middle"}
    known[size // 2 + 1, size // 2 + 1] = "one pixel beyond the middle, down and to the right"
    return known.get(tuple(place), "at another place than the middle")


# 3.3


@exercise(
    "3.3",
    expects="a number, the ratio you predict",
    right="you multiplied factors.",
)
def predict_ratio(attempt, ratio_56, ratio_110):
    """First over last gradient norm of plain-110, predicted from plain-56's and then measured."""
    guess = number(attempt, "the ratio")
    expect(guess > 0, f"A ratio of two norms is positive, got {guess:g}.", 1)
    often = guess ** (1 / 108), ratio_56 ** (1 / 54)
    factors = "that is a factor of {:.2f} for each of 108 layers, and plain-56 shows {:.2f}"
    if guess * 20 < ratio_110:
        low = f"{guess:,.4g} is too small by more than a factor of 20"
        expect(guess >= 1, f"{low}: below 1 the gradient would *vanish* towards the input.", 1)
        why = _why_ratio(guess, ratio_56) or factors.format(*often)
        raise Mistake(f"{low}: {why}.", 2)
    if guess > 20 * ratio_110:
        high = f"{guess:,.4g} is too large by more than a factor of 20"
        wide = abs(often[0] - 1.2112) < 0.004
        expect(
            not wide,
            f"{high}: 1.21 per layer is for wide layers without an image's edge; take the factor "
            "that plain-56 shows.",
            1,
        )
        raise Mistake(f"{high}: {_why_large(guess, ratio_56) or factors.format(*often)}.", 2)
    away = max(guess / ratio_110, ratio_110 / guess)
    return (
        f"plain-56 measures {ratio_56:,.0f}, plain-110 {ratio_110:,.0f}, you predicted "
        f"{guess:,.0f}, off by a factor of {away:.1f}: equal factors per layer multiply."
    )


def _why_ratio(guess, ratio_56):
    """Words for a prediction that is too small, or None."""
    factor = ratio_56 ** (1 / 54)
    if 0.7 < guess / ratio_56 < 1.5:
        return "that is about plain-56's own ratio, as if 54 more layers changed next to nothing"
    if 1.5 <= guess / ratio_56 < 3:
        return "it is about double, as if each layer *added* its share; layers multiply"
    if 40 < guess / ratio_56 < 80:
        return "you multiplied by the number of layers; each layer multiplies *again*"
    if abs(guess - 1) < 0.01:
        return "without any difference the factor per layer would be 1"
    if abs(guess - factor) < 0.02:
        return "that is about the factor of one layer; 108 of them multiply"
    counts = 54, 55, 56, 108, 109, 110
    if abs(guess - 110 / 56) < 0.05 or abs(guess - 109 / 55) < 0.05:
        return "that counts layers, and the ratio is what all their factors multiply to"
    if guess in counts or math.sqrt(guess) in counts:
        return "that counts layers, and the ratio is what all their factors multiply to"
    if abs(guess - math.log10(ratio_56**2)) < 0.8:
        return "that is its number of digits, the logarithm"
    if 0.85 < math.sqrt(ratio_56) / guess < 1.2:
        return "that is about the root of plain-56's ratio; more layers make it larger, not smaller"
    if 0.9 < guess / factor / 108 < 1.1 or 0.9 < guess / factor / 54 < 1.1:
        return "that is a layer's factor times the number of layers; each multiplies *again*"
    return None


def _why_large(guess, ratio_56):
    """Words for a prediction that is too large, or None."""
    power = math.log(guess) / math.log(ratio_56)
    if 2.7 < power < 3.3 or 3.7 < power < 4.3:
        return "it is plain-56's ratio multiplied by itself too often; the depth doubles once"
    if 50 < guess / ratio_56**2 < 200:
        return "it is about a hundred times the square of plain-56's; a ratio is not in per cent"
    return None


# 3.4


def unlabelled(digits, plain, residual):
    """Error curves without names -> {letter: (training errors, test errors)}, evaluation mode.

    Two of the chapter's own runs, and one small network trained here on 30 images.
    """
    few = replace(
        digits, train_images=digits.train_images[:30], train_labels=digits.train_labels[:30]
    )
    train.seed_everything(0)
    network = resnet.cifar_plain(8, in_channels=1)
    third = train.fit(network, few, 32, 0.02, batch_size=15, evaluate_every=8)
    runs = {"A": plain[56], "B": residual[56], "C": third}
    return {
        letter: tuple(
            [error for error in errors if not math.isnan(error)]
            for errors in (history.train_error_eval, history.test_error)
        )
        for letter, history in runs.items()
    }


@exercise(
    "3.4",
    expects='a dictionary like {"A": "overfitting", ...}',
    right="B and C fit their training images, A does not. High errors alone are only "
    "*under*fitting; it is degradation because the shallower plain-20 fits the same images in the "
    "same budget.",
)
def diagnose(attempt):
    """A dictionary: each patient's letter -> "overfitting", "degradation" or "healthy"."""
    truth = {"A": "degradation", "B": "healthy", "C": "overfitting"}
    words = choices(attempt, list(truth), sorted(set(truth.values())), "patient")
    reason = {
        ("A", "overfitting"): "the error on the *training* images is high too: nothing is fitted, "
        "so nothing can be overfitted",
        ("A", "healthy"): "both errors stay high",
        ("B", "overfitting"): "training and test error are both low and close together",
        ("B", "degradation"): "the training error reaches zero",
        ("C", "degradation"): "the training error is zero, so optimization did all it was asked to",
        ("C", "healthy"): "the test error stays far above the training error",
    }
    for letter in truth:
        word = words[letter]
        expect(
            word == truth[letter],
            f'Patient {letter} is not "{word}": {reason.get((letter, word))}.',
            1 if letter == "A" else 2,
        )


# 3.5


@exercise(
    "3.5",
    expects="a function of network, images and labels",
    right="your function gives the error of the weights as they are, for two sizes of batch, and "
    "leaves modes, weights, running statistics and gradients as they were, in both modes.",
)
def mended_error(attempt):
    """A function: (network, images, labels) -> error in evaluation mode, a fraction."""
    count = random.choice([120, 160, 200])
    for _ in range(50):
        network = resnet.cifar_plain(8, in_channels=1)
        images = torch.randn(count, 1, 8, 8) + torch.linspace(-2, 2, count)[:, None, None, None]
        for _ in range(3):
            network(images)  # running statistics of these images
        if all(
            len(_measured(network, images, mode).unique()) > 2
            for mode in (nn.Module.eval, *MODES.values())
        ):
            break  # it does not say the same of all images
    nn.functional.cross_entropy(network(images), torch.arange(count) % 10).backward()
    for mode, size in ((False, count), (True, count), (True, count // 2)):
        few = images[:size]
        labels = _labels_with_errors(network, few, wrong=3 * size // 10)
        network.train(mode)
        before = copied(network)
        got = _error_by(attempt, network, few, labels)
        left_on = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        expect(
            left_on,
            "Gradients are switched off for whatever comes after your function: use `with "
            "torch.no_grad():`, which ends with its block.",
        )
        _judge_error(number(got, "the error", unit="fraction"), before, few, labels)
        _judge_modes(network, mode)
        old, new = before.state_dict(), network.state_dict()
        expect(
            all(close(new[name], old[name], 0) for name in old),
            "The running statistics of batch norm changed: a measurement must not train the "
            "network, and `torch.no_grad()` does not prevent it.",
            1,
        )
        as_before(before, network)


def _error_by(attempt, network, images, labels):
    try:
        got = attempt(network, images, labels)
    except RuntimeError as error:
        if "must match the size" not in str(error):
            raise
        raise Mistake(
            "What is compared with the labels does not have one number for each image: the "
            "network's outputs are (images, classes), and `argmax` goes over the classes, axis 1."
        ) from error
    expect(got is not None, "The function returned None: does it end with `return`?")
    return got


def _judge_modes(network, mode):
    """Every module must be in the mode that the network came in."""
    name = {True: "training", False: "evaluation"}
    modes = [module.training for module in network.modules()]
    if set(modes) == {not mode}:
        after = (
            "its training would go on with batch norm in evaluation mode."
            if mode
            else "its next answers would depend on the batch they come in."
        )
        came = f"The network came in {name[mode]} mode and left in {name[not mode]} mode"
        expect(False, f"{came}: {after}", 2)
    expect(
        set(modes) == {mode},
        "The network itself is in its old mode again, but modules inside it are not: batch norm "
        "has a mode of its own, and `network.train(mode)` sets all of them.",
        2,
    )


def _first_norm_alone(network):
    network.train().bn1.eval()


def _without_statistics(network):
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


MODES = {  # in which a network was measured, and the words for it
    "that is what the network answers in *training* mode, with the statistics of this batch": (
        nn.Module.train
    ),
    "only the first batch norm was in evaluation mode; those inside the blocks were not": (
        _first_norm_alone
    ),
    "the running statistics were reset before it was measured; they belong to the network": (
        _without_statistics
    ),
}


@torch.no_grad()
def _measured(network, images, mode):
    twin = copied(network)
    mode(twin)
    return twin(images).argmax(1)


@torch.no_grad()
def _labels_with_errors(network, images, wrong):
    """Labels that the network in evaluation mode gets wrong exactly `wrong` times.

    In other modes it is wrong, and right, another number of times.
    """
    said = _measured(network, images, nn.Module.eval)
    others = [_measured(network, images, mode) for mode in MODES.values()]
    for _ in range(200):
        labels, chosen = said.clone(), torch.randperm(len(said))[:wrong]
        labels[chosen] = (labels[chosen] + random.randint(1, 9)) % 10
        counts = [wrong, len(said) - wrong, *(int((o != labels).sum()) for o in others)]
        if len(set(counts)) == len(counts):
            break
    return labels


@torch.no_grad()
def _judge_error(got, network, images, labels):
    wanted, count = 0.3, len(labels)
    logits = copied(network).eval()(images)
    loss = nn.functional.cross_entropy(logits, labels).item()
    across = logits.argmax(0)
    known = [
        (1 - wanted, "that is the share it got *right*, the accuracy", None),
        (wanted * 100, "the error is a fraction here, not a percentage", None),
        (
            wanted * count,
            "that is the *number* of errors; divide by the number of images",
            None,
        ),
        (loss, "that is the loss, not the share of wrong answers", None),
    ]
    for words, mode in MODES.items():
        error = (_measured(network, images, mode) != labels).double().mean().item()
        known.append((error if abs(error - wanted) > 1e-9 else None, words, 1))
    if got > 0.85:
        missed = (across != labels[: len(across)]).double().mean().item()
        words = "is `argmax` taken over the classes, axis 1? Along the images it gives this"
        known.append((missed, words, None))
    judge(got, wanted, "the error", known, 1, tolerance=1e-5)


QUIZ = [
    Question(
        "Plain-56 has a higher *test* error than plain-20. Does that alone show degradation?",
        [
            (
                "Yes: deeper is worse.",
                "Overfitting would look just the same. The *training* error decides.",
            ),
            (
                "No: for that one must look at the training error.",
                "Degradation means that the error on the training images themselves goes up.",
            ),
            (
                "No: first count the parameters of both, which must be equal.",
                "Their number plays no part in the definition; plain-56 has more.",
            ),
        ],
        right=1,
    ),
    Question(
        "Identity layers turn a trained plain-20 into a plain-56 with the same outputs. What does "
        "this show, together with the failed training?",
        [
            (
                "Plain-56 can represent a good solution; training does not find it in its budget.",
                "The two differ in who chose the weights, and in nothing else.",
            ),
            (
                "Gradient descent would find that solution, if only it had more parameters to "
                "choose from.",
                "More of the same made it worse. The construction says nothing about descent.",
            ),
            (
                "The trained plain-56 overfits, and the constructed one does not.",
                "The trained one is wrong on many of its *training* images, so it has fitted "
                "nothing that could be overfitted.",
            ),
        ],
        right=0,
    ),
    Question(
        "After 65 updates the first convolution of plain-56 has a smaller weight gradient than the "
        "last. Its weights have grown about seventyfold. What follows?",
        [
            (
                "The gradient vanishes on its way to the first layers, after all.",
                "Larger weights before a batch norm make the weight gradient smaller in "
                "proportion. Times the weights' norm, the two are of the same order.",
            ),
            (
                "The first layers have learned all that there was to learn.",
                "The training error is still high. A small step is no sign of success.",
            ),
            (
                "The first layers hardly move any more, by their own measure.",
                "The share of itself by which a gradient moves a layer falls with the square of "
                "the weights, and the first gradient, which momentum kept up for some forty "
                "updates, has faded: the relative step is far smaller than at the last layer.",
            ),
        ],
        right=2,
    ),
    Question(
        "Plain-56 trains with a slope of 0.5 and nothing else changed. Is this proof that the "
        "growth of the gradients causes degradation?",
        [
            (
                "Yes: the growth was removed, and the error with it.",
                "Another change, β = 2, removes the growth, and the network still does not train. "
                "A slope also changes what comes forwards.",
            ),
            (
                "It is evidence, from a prediction that could have failed.",
                "The order of four slopes was predicted. But the slope changes the forward signal "
                "as well, and β = 2 speaks against growth as the whole cause: proof would need a "
                "change that moves the growth alone.",
            ),
            (
                "It proves nothing, since another activation function is another network.",
                "A change of one number, predicted before, with three seeds, is evidence. It is "
                "just not the last word.",
            ),
        ],
        right=1,
    ),
    Question(
        "A log says: training error 62 % (running), 77 % (evaluation mode). Can both be right?",
        [
            (
                "Yes: they measure different things.",
                "One runs over an epoch in training mode while the weights change, the other uses "
                "fixed weights and running statistics. A plot must name which.",
            ),
            (
                "No: an error is measured with fixed weights, so the first one is a mistake.",
                "Both are measurements. They answer different questions.",
            ),
            (
                "No: on training images batch norm belongs in training mode, so the second one is.",
                "In evaluation mode the network answers as it would when used.",
            ),
        ],
        right=0,
    ),
]

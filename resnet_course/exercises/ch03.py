"""Chapter 03, the degradation problem: checks and quiz."""

import math
import random
from dataclasses import replace

import torch
from torch import nn

from resnet_course import resnet, train
from resnet_course.teaching.check import call, choice, close, exercise, expect, number, tensor
from resnet_course.teaching.quiz import Question


@exercise(
    "3.1",
    expects="a function of a network",
    right="your count agrees on plain, residual and bottleneck networks, and on a linear one.",
)
def count_layers(attempt):
    """A function: network -> number of convolutions on the main path plus linear layers."""
    for build, wanted, said in [
        (lambda: resnet.cifar_plain(20, in_channels=1), 20, "plain-20"),
        (lambda: resnet.cifar_resnet(8, shortcut="C"), 8, "residual-8 with convolved shortcuts"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
            1,
            "a network with one linear layer",
        ),
    ]:
        network = build()
        got = number(call(attempt, network), f"the layers of {said}")
        why, hint = _why_count(network, wanted, got)
        expect(
            got == wanted,
            f"Expected {wanted} as the number of layers for {said}, got {got:g}: {why}.",
            hint,
        )
    network = resnet.resnet50(num_classes=10)
    got = number(call(attempt, network), "the layers of ResNet-50")
    why = "its blocks have three convolutions each"
    expect(got == 50, f"Expected 50 as the number of layers for ResNet-50, got {got:g}: {why}.", 2)


def _why_count(network, wanted, got):
    kinds = [type(m) for m in network.modules()]
    convs, norms = kinds.count(nn.Conv2d), kinds.count(nn.BatchNorm2d)
    shortcuts = sum("downsample.0" in name for name, _ in network.named_modules())
    outermost = [type(m) for m in network.children()]
    direct = outermost.count(nn.Conv2d) + outermost.count(nn.Linear)
    known = [
        (wanted + norms, "batch norm has learned numbers, but is not counted as a layer", 2),
        (wanted + shortcuts, "the convolutions inside shortcuts do not count", 2),
        (convs + norms + 1, "neither batch norm nor the shortcuts count", 2),
        (len(kinds), "every module was counted, also those without weights", 2),
        (len(outermost), "only the outermost modules were looked at", 1),
        (direct, "of the layers inside blocks none was found; look at *any* depth", 1),
        (len(list(network.parameters())), "those are parameter tensors; a layer can have two", 2),
        (sum(p.numel() for p in network.parameters()), "those are single learned numbers", 2),
        (0, "go by the *type* of each module; `named_modules()` gives pairs of name and module", 2),
        (wanted - 1, "one is missing, the linear layer at the end or the first convolution", 2),
        (wanted - 2, "the first convolution and the linear layer have weights too", 2),
    ]
    other = "count convolutions and linear layers, at any depth, shortcuts left out", 2
    return next((known_why for count, *known_why in known if count == got), other)


@exercise(
    "3.2",
    expects="a function of channels and size",
    right="your kernel left random images unchanged for 1 to 5 channels and sizes 1, 3 and 5.",
)
def identity_kernel(attempt):
    """A function: (channels, odd size) -> weight (channels, channels, size, size)."""
    for channels, size in ((3, 3), (1, 5), (5, 1), (4, 3), (2, 5)):
        weight = call(attempt, channels, size, hint=1)
        what = f"the kernel for {channels} channels and size {size}"
        weight = tensor(weight, (channels, channels, size, size), what)
        image = torch.randn(2, channels, 7, 9, dtype=torch.double)
        out = nn.functional.conv2d(image, weight, padding=size // 2)
        sentence = f"For {what}, the output is not the input: {_why(weight)}."
        expect(close(out, image), sentence.replace("1 channels", "1 channel"), 2)


def _why(weight):
    channels, _, size, _ = weight.shape
    centre = weight[:, :, size // 2, size // 2]
    rest = weight.clone()
    rest[:, :, size // 2, size // 2] = 0
    eye = torch.eye(channels, dtype=weight.dtype)
    if not weight.any():
        return "the kernel is 0 everywhere, and so is what comes out"
    if (weight == weight.flatten()[0]).all():
        return "with the same number everywhere it blurs the image and mixes the channels"
    if size > 3 and not centre.any() and weight[:, :, 1, 1].any():
        return "the centre of a kernel is at `size // 2`, not always at 1"
    if rest.any() and close(weight.sum((2, 3)), eye):
        return "it averages or shifts the pixels; only the centre may differ from 0"
    if rest.any():
        return "only the centre of each kernel may differ from 0"
    if close(centre, torch.ones_like(centre)):
        return "every output channel adds up all input channels; it must take its own alone"
    if close(centre, centre * eye) and (centre.diagonal() == 0).any():
        return "some channels come out as zeros: every channel needs its own 1"
    if close(centre, centre * eye):
        return "the centres have the right places, but their value must be 1"
    return "output channel i must read input channel i, and no other"


@exercise(
    "3.3",
    expects="a number, the ratio you predict",
    right="you multiplied factors.",
)
def predict_ratio(attempt, ratio_56, ratio_110):
    """First over last gradient norm of plain-110, predicted from plain-56's and then measured."""
    guess = number(attempt, "the ratio")
    low = f"{guess:,.4g} is too small by more than a factor of 20"
    high = f"{guess:,.4g} is too large by more than a factor of 20"
    expect(guess > 0, f"A ratio of two norms is positive, got {guess:g}.", 1)
    expect(guess >= 1, f"{low}: below 1 the gradient would *vanish* towards the input.", 1)
    if guess * 20 < ratio_110:
        per_56 = guess / ratio_56
        why = "54 layers more multiply by the ratio of plain-56 once more"
        if 0.7 < per_56 < 1.5:
            why = "with the same ratio as plain-56, 54 more layers would change nothing"
        elif 1.5 <= per_56 < 3:
            why = "it is about double, as if each layer *added* its share; layers multiply"
        elif 40 < per_56 < 80:
            why = "you multiplied by the number of layers; each layer multiplies *again*"
        expect(False, f"{low}: {why}.", 2)
    why = "the ratio is multiplied once more by itself, no oftener"
    expect(guess < 20 * ratio_110, f"{high}: {why}.", 2)
    away = max(guess / ratio_110, ratio_110 / guess)
    return (
        f"plain-56 measures {ratio_56:,.0f}, plain-110 {ratio_110:,.0f}, you predicted "
        f"{guess:,.0f}, off by a factor of {away:.1f}: equal factors per layer multiply."
    )


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
    runs = {"A": plain[56], "B": residual[20], "C": third}
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
    kind = type(attempt).__name__
    expect(isinstance(attempt, dict), f"Expected a dictionary, got a {kind}.", None)
    missing = [letter for letter in truth if letter not in attempt]
    absent = ", ".join(missing)
    expect(not missing, f"Expected a word for each of A, B and C; {absent} is missing.", None)
    options = sorted(set(truth.values()))
    words = {letter: choice(attempt[letter], options, f"patient {letter}") for letter in truth}
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


@exercise(
    "3.5",
    expects="a function of network, images and labels",
    right="your function gives the error of fixed weights, the same each time, and leaves the "
    "network as it was, in both modes.",
)
def mended_error(attempt):
    """A function: (network, images, labels) -> error in evaluation mode, a fraction."""
    torch.manual_seed(random.getrandbits(30))
    network = resnet.cifar_plain(8, in_channels=1)
    images = torch.randn(200, 1, 8, 8) + torch.linspace(-2, 2, 200)[:, None, None, None]
    for _ in range(3):
        network(images)  # running statistics of these images
    labels = _labels_with_errors(network, images, wrong=60)
    for mode in (False, True):
        network.train(mode)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        got = attempt(network, images, labels)
        expect(got is not None, "The function returned None: does it end with `return`?")
        got = number(got, "the error")
        _judge_error(got, network, images, labels)
        after = network.state_dict()
        expect(
            all(torch.equal(before[name], after[name]) for name in before),
            "The running statistics of batch norm changed: a measurement must not train the "
            "network, and `torch.no_grad()` does not prevent it.",
            1,
        )
        expect(
            network.training == mode,
            f"The network came in {_mode(mode)} mode and left in {_mode(not mode)} mode: "
            + (
                "its training would go on with batch norm in evaluation mode."
                if mode
                else "its next answers would depend on the batch they come in."
            ),
            2,
        )


def _mode(training):
    return "training" if training else "evaluation"


@torch.no_grad()
def _labels_with_errors(network, images, wrong):
    """Labels that the network in evaluation mode gets wrong exactly `wrong` times."""
    labels = network.eval()(images).argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return labels


@torch.no_grad()
def _judge_error(got, network, images, labels):
    was_training = network.training
    fresh = resnet.cifar_plain(8, in_channels=1)
    fresh.load_state_dict(network.state_dict())
    loss = nn.functional.cross_entropy(fresh.eval()(images), labels).item()
    in_training = (fresh.train()(images).argmax(1) != labels).double().mean().item()
    network.train(was_training)
    wanted, count = 0.3, len(labels)
    known = [
        (1 - wanted, "that is the share it got *right*, the accuracy"),
        (wanted * 100, "the error is a fraction here, not a percentage"),
        (wanted * count, "that is the *number* of errors; divide by the number of images"),
        (loss, "that is the loss, not the share of wrong answers"),
        (
            in_training,
            "that is what the network answers in *training* mode, with the statistics "
            "of this batch",
        ),
    ]
    reason = next((why for value, why in known if abs(got - value) < 1e-4), None)
    reason = reason or "compare each image's most likely digit with its label, in evaluation mode"
    about_mode = abs(got - in_training) < 1e-4 or reason.startswith("compare")
    sentence = f"Expected an error of 0.3, got {got:.4g}: {reason}."
    expect(abs(got - wanted) < 1e-4, sentence, 1 if about_mode else None)


QUIZ = [
    Question(
        "Plain-56 has a higher *test* error than plain-20. Does that alone show degradation?",
        [
            (
                "Yes: deeper is worse.",
                "Overfitting would look just the same. The *training* error decides.",
            ),
            (
                "No: one must look at the training error.",
                "Degradation means that the error on the training images themselves goes up.",
            ),
            (
                "No: one must look at the number of parameters.",
                "It plays no part in the definition.",
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
                "Gradient descent would find that solution with more parameters.",
                "More of the same made it worse. The construction says nothing about descent.",
            ),
            (
                "Plain-56 overfits.",
                "It has low training *and* low test error: no overfitting there.",
            ),
        ],
        right=0,
    ),
    Question(
        "Which sentence do the gradients measured in this chapter support?",
        [
            (
                "They vanish in plain-56, and that causes degradation.",
                "At the start they grow towards the input, a thousandfold.",
            ),
            (
                "They explode in plain-56, and that causes degradation.",
                "They explode at first, but not for long; that this *causes* the failure, the "
                "measurement does not show.",
            ),
            (
                "At the start they grow towards the input; after 65 updates they are smaller "
                "there.",
                "That is what was measured, and no more.",
            ),
        ],
        right=2,
    ),
    Question(
        "A log says: training error 62 % (running), 77 % (evaluation mode). Is one a mistake?",
        [
            (
                "Yes, the first: an error is measured with fixed weights.",
                "Both are measurements. They answer different questions.",
            ),
            (
                "Yes, the second: on training images batch norm belongs in training mode.",
                "In evaluation mode the network answers as it would when used.",
            ),
            (
                "No: they measure different things, and a plot must name which.",
                "One runs over an epoch in training mode while the weights change, the other uses "
                "fixed weights and running statistics.",
            ),
        ],
        right=2,
    ),
]

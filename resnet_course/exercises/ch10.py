"""Chapter 10, After ResNet, and past one machine: checks and quiz."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course.teaching.check import (
    call,
    choice,
    differing,
    exercise,
    expect,
    judge,
    number,
    show,
)
from resnet_course.teaching.quiz import Question

# 10.1


@exercise(
    "10.1",
    expects="a function of in_channels, out_channels, kernel, groups, height and width",
    right="your number is that of a real convolution, for one group, several, and as many as "
    "channels, and for maps that are not square.",
)
def grouped_cost(attempt):
    """A function: (in_channels, out_channels, kernel, groups, height, width) -> multiply-adds."""
    primes = [5, 7, 11, 13, 17, 19]
    for groups, into, out in ((1, 2, 10), (4, 2, 3), (6, 1, 2), (8, 2, 5)):
        height, width = random.sample(primes, 2)
        kernel = random.choice((3, 5, 7))
        c_in, c_out = groups * into, groups * out
        args = (c_in, c_out, kernel, groups, height, width)
        got = number(call(attempt, *args), "the multiply-adds", 1)
        whole = c_out * height * width * kernel**2 * c_in
        wanted = whole // groups
        known = [
            (whole // groups**2, "it was divided by the groups twice; outputs are not fewer", 2),
            (2 * wanted, "a multiply-add counts as one operation here", None),
            (wanted // kernel, "a kernel has `kernel * kernel` places", 1),
            (wanted + c_out * height * width, "there is no bias", None),
            (wanted // (height * width), "that is the number of weights; each is used anew "
             "at every place of the map", 1),
            (wanted // width * height, "`height` was used twice: the map is not square", 1),
            (wanted * groups // c_in, "each output sums over the channels of its group, too", 1),
            (wanted // c_out, "that is the cost of one output channel", 1),
        ]  # fmt: skip
        if groups > 1:
            known += [
                (whole, "the groups save nothing yet; an output channel reads its group alone", 2),
                (whole * groups, "it was multiplied by the groups, and they save work", 2),
            ]
            judge(got, wanted, "a convolution in groups", _single(known, wanted), 2, 1e-9)
        else:
            judge(got, wanted, "a convolution with one group", _single(known, wanted), 1, 1e-9)


def _single(known, wanted):
    """The known mistakes, one for each value, none that is right."""
    found = {}
    for value, *rest in known:
        if value != wanted:
            found.setdefault(value, (value, *rest))
    return list(found.values())


# 10.2


@exercise(
    "10.2",
    expects="a function of order, batch, rank and world",
    right="in every update the processes together have just the images they should have, each "
    "once, and equally many, for one to four processes and with images left over.",
)
def share(attempt):
    """A function: (order, batch, rank, world) -> this process's batches, lists of numbers."""
    for world, per, updates, extra in ((2, 3, 4, 0), (1, 4, 3, 2), (4, 2, 3, 5), (3, 4, 2, 11)):
        batch = world * per
        order = random.sample(range(1000), batch * updates + extra)
        what = f"With {world} process{'es' * (world > 1)}"
        every = [_batches(call(attempt, list(order), batch, r, world), what) for r in range(world)]
        _judge_shares(every, order, batch, updates, what)


def _batches(value, what):
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    good = isinstance(value, list | tuple)
    expect(good, f"Expected a list of batches, got {show(value)}.")
    try:
        return [[int(n) for n in part] for part in value]
    except TypeError:
        expect(False, f"{what} expected a list of *lists* of image numbers.", 1)


def _judge_shares(every, order, batch, updates, what):
    world, seen = len(every), {n for batches in every for part in batches for n in part}
    counts = {len(batches) for batches in every}
    expect(len(counts) == 1, f"{what} some have more updates than others: those wait for ever.", 1)
    sizes = {len(part) for batches in every for part in batches[:updates]}
    if counts != {updates}:
        more = counts.pop() > updates
        small = {len(part) for batches in every for part in batches} != {batch // world}
        expect(
            not (more and small),
            f"{what} an incomplete batch is among them: what is left over is left out.",
            1,
        )
        expect(
            not more,
            f"{what} there are more updates than whole batches in `order`: `batch` counts the "
            "images of *all* processes.",
            1,
        )
        expect(False, f"{what} there are fewer updates than whole batches in `order`.", 1)
    expect(
        sizes != {batch} or world == 1,
        f"{what} each reads the *whole* batch; it should have its share.",
        2,
    )
    expect(sizes == {batch // world}, f"{what} the shares of a batch differ in size.", 2)
    total = sum(len(part) for batches in every for part in batches)
    expect(
        len(seen) == total,
        f"{what} an image is read by two processes or twice, and others by none.",
        2,
    )
    for u in range(updates):
        wanted = set(order[u * batch : (u + 1) * batch])
        got = {n for batches in every for n in batches[u]}
        expect(
            got == wanted,
            f"{what} the images that meet in an update are not `order[u * batch : (u + 1) * "
            "batch]`.",
            1,
        )


# 10.3


@exercise(
    "10.3",
    expects="a function of network, images, labels and pieces",
    right="the gradients are those of the whole batch, also when the last piece is smaller and "
    "when old gradients were there.",
)
def accumulate(attempt):
    """A function: (network, images, labels, pieces) -> None; gradients of the whole batch."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    for count, pieces, old in ((12, 3, False), (11, 3, False), (12, 4, True), (10, 4, True)):
        network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5))
        network = network.double().eval()
        images, labels = torch.randn(count, 2, 2, 2).double() * 3, torch.randint(5, (count,))
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        rubbish = {name: torch.randn_like(p) for name, p in network.named_parameters()}
        for name, p in network.named_parameters():
            p.grad = rubbish[name].clone() if old else None
        sizes = []
        network.register_forward_hook(lambda m, x, y, sizes=sizes: sizes.append(len(y)))
        attempt(network, images.clone(), labels.clone(), pieces)
        given = max(sizes, default=0)
        got = {name: p.grad for name, p in network.named_parameters()}
        same = all(torch.equal(before[n], p) for n, p in network.named_parameters())
        expect(same, "The weights have changed: no step belongs here.", None)
        expect(
            all(value is not None for value in got.values()),
            "There is no gradient afterwards: `backward()` makes it, `zero_grad()` removes it.",
            1,
        )
        known = _known_gradients(network, images, labels, pieces, rubbish if old else None)
        wanted = known.pop("right")
        wrong = differing(got, wanted, 1e-9)
        if wrong is not None:
            why = next((w for w, g in known.items() if differing(got, g, 1e-9) is None), None)
            why = why or "they are other ones than those of the whole batch"
            expect(False, f"{_batch(count, pieces, old)} the gradients are wrong: {why}.", 2 if
                   "mean" in why or "pieces" in why else 1)  # fmt: skip
        expect(
            given < count,
            "The network was given the whole batch at once; it has to come in pieces.",
            1,
        )


def _batch(count, pieces, old):
    kind = "equal pieces" if count % pieces == 0 else "a smaller last piece"
    return f"With {kind}{' and old gradients' * old}"


def _known_gradients(network, images, labels, pieces, old):
    """Gradients of the right way and of known mistakes -> {words: {name: gradient}}."""
    parameters = dict(network.named_parameters())

    def of(loss):
        found = torch.autograd.grad(loss, list(parameters.values()))
        return dict(zip(parameters, found, strict=True))

    parts = list(zip(images.chunk(pieces), labels.chunk(pieces), strict=True))
    every = {"right": of(F.cross_entropy(network(images), labels))}
    if old:
        every["the old gradients are still in them"] = {
            name: value + old[name] for name, value in every["right"].items()
        }
    every["they are the *sum* of the pieces' gradients"] = of(
        sum(F.cross_entropy(network(x), y) for x, y in parts)
    )
    if len({len(y) for _, y in parts}) > 1:
        every["the pieces' means count alike, though the last piece is smaller"] = of(
            sum(F.cross_entropy(network(x), y) for x, y in parts) / len(parts)
        )
    every["they are those of the last piece alone"] = of(F.cross_entropy(network(parts[-1][0]),
                                                                        parts[-1][1]))  # fmt: skip
    every["they are those of the last piece alone, divided by the number of pieces"] = of(
        F.cross_entropy(network(parts[-1][0]), parts[-1][1]) / pieces
    )
    every["they are those of the first piece alone"] = of(
        F.cross_entropy(network(parts[0][0]), parts[0][1])
    )
    every["they are a sum over all images, not a mean"] = of(
        F.cross_entropy(network(images), labels, reduction="sum")
    )
    return every


# 10.4

KINDS = ("block", "recipe", "mixed")


@exercise(
    "10.4",
    expects='a dictionary like {"A": "block", ...}',
    right="only B and C change one thing; A and D change two, and in D the "
    "baseline alone got the better training.",
)
def judge_claims(attempt):
    """A dictionary: each sentence's letter -> "block", "recipe" or "mixed"."""
    truth = {"A": "mixed", "B": "block", "C": "recipe", "D": "mixed"}
    kind = type(attempt).__name__
    expect(isinstance(attempt, dict), f"Expected a dictionary, got a {kind}.")
    absent = ", ".join(letter for letter in truth if letter not in attempt)
    expect(not absent, f"Expected a word for each of A to D; {absent} is missing.")
    reason = {
        ("A", "block"): "the old network had another training, too",
        ("A", "recipe"): "the network is another one, too",
        ("B", "recipe"): "the recipe is the same for both",
        ("B", "mixed"): "the recipe is the same for both, so one thing differs",
        ("C", "block"): "both are ResNet-50, to the last layer",
        ("C", "mixed"): "both are ResNet-50, so one thing differs",
        ("D", "block"): "the baseline alone got the new schedule",
        ("D", "recipe"): "the two networks have other blocks, too",
    }
    words = {letter: choice(attempt[letter], KINDS, f"sentence {letter}") for letter in truth}
    for letter, right in truth.items():
        word = words[letter]
        why = reason.get((letter, word))
        expect(word == right, f'Sentence {letter} is not "{word}": {why}.', 1)


QUIZ = [
    Question(
        "ResNeXt-50 has 32 groups in its 3 × 3 convolutions and costs about what ResNet-50 costs. "
        "What are the groups for?",
        [
            (
                "They make the network faster at the same width.",
                "At the same width they would. ResNeXt spends what they save.",
            ),
            (
                "They pay for twice the width inside the block.",
                "Twice the width would cost four times as much; in 32 groups it costs an eighth.",
            ),
            (
                "They let several GPUs share a layer.",
                "AlexNet's two groups did, in 2012. Here it is a matter of cost.",
            ),
        ],
        right=1,
    ),
    Question(
        "A new block under a new recipe reaches 82 %. ResNet-50 is listed with 76.1 %. What is the "
        "block worth?",
        [
            (
                "6 points.",
                "The same ResNet-50 gained almost five by another recipe alone.",
            ),
            ("1 point, since the recipe gives 5.", "Another recipe gives another amount."),
            (
                "Unknown until ResNet-50 is trained by the same recipe.",
                "Two things were changed at once.",
            ),
        ],
        right=2,
    ),
    Question(
        "Two processes with 16 images each, ordinary batch norm, gradients averaged. Compared with "
        "one process and the same 32 images, what differs?",
        [
            (
                "The statistics with which each image is normalized.",
                "Everything else is a mean over images, and a mean of two means.",
            ),
            (
                "The gradient of the linear layer's bias, as each process has its own.",
                "They are averaged after every backward pass, as all others.",
            ),
            ("Nothing, up to rounding.", "It would be so without batch norm, or synchronized."),
        ],
        right=0,
    ),
    Question(
        "A run saves weights and epoch number, and goes on from there after a crash. The loss "
        "jumps. What is missing?",
        [
            (
                "The gradients of the last update.",
                "They are made anew in every update.",
            ),
            (
                "The optimizer's state.",
                "With SGD its momentum: the first updates after the crash start without it.",
            ),
            ("The learning rate.", "It follows from the epoch, or the update, by the schedule."),
        ],
        right=1,
    ),
]

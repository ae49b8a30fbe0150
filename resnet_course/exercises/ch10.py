"""Chapter 10, After ResNet, and past one machine: checks and quiz."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course.teaching.check import (
    Mistake,
    as_before,
    call,
    choices,
    copied,
    exercise,
    expect,
    judge,
    number,
    proportion,
    same,
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
    for shapes in ((4, 6, 8), (1,), (3, 5)):
        args = _shape(shapes)
        while shapes[0] == 4 and len(_apart(_known_costs(*args))) < len(_known_costs(*args)):
            args = _shape(shapes)  # the first case tells all known mistakes apart
        c_in, c_out, kernel, groups, height, width = args
        got = number(call(attempt, *args), "the multiply-adds")
        wanted = c_out * height * width * kernel**2 * c_in // groups
        kind = "with one group" if groups == 1 else "in groups"
        known = [entry for entry in _apart(_known_costs(*args)) if entry[0] != wanted]
        judge(got, wanted, f"a convolution {kind}", known, 2 if groups > 1 else 1, 1e-9)


def _shape(groups):
    groups = random.choice(groups)
    c_in, c_out = (groups * n for n in random.sample((1, 2, 3, 5, 7) if groups != 4 else (2, 3), 2))
    return c_in, c_out, random.choice((5, 7)), groups, *random.sample((5, 7, 11, 13, 17, 19), 2)


def _apart(known):
    """Those of the known mistakes whose value no other one has."""
    values = [float(value) for value, *_ in known]
    return [entry for entry, value in zip(known, values, strict=True) if values.count(value) == 1]


def _known_costs(c_in, c_out, kernel, groups, height, width):
    """(value, words, hint) of the known mistakes."""
    pixels, places = height * width, kernel * kernel
    outputs, each = c_out * pixels, places * (c_in // groups)
    right, whole = outputs * each, outputs * places * c_in
    known = [
        (right // kernel, "a kernel has `kernel * kernel` places", 1),
        (right * kernel, "`kernel` was multiplied in three times; it has two sides", 1),
        (9 * right // places, "the kernel was taken for 3 x 3, whatever `kernel` says", 1),
        (right // 2, "that is half of it", None),
        (outputs * c_in // groups, "the kernel's places are missing", 1),
        (outputs, "that is the number of outputs; each is a sum over products", 1),
        (right // kernel * 2, "`kernel` was added to itself; a kernel has `kernel * kernel` places",
         1),
        (2 * right, "a multiply-add counts as one operation here", None),
        (3 * right, "it is three times as much; only the forward pass is asked for", None),
        (right + outputs, "there is no bias", None),
        (right - outputs, "a multiply-add is counted for every product, the first one too", None),
        (right // pixels, "that is the number of weights; each is used anew at every place of "
         "the map", 1),
        (right // width, "`width` is missing: the map has `height * width` places", 1),
        (right // height, "`height` is missing: the map has `height * width` places", 1),
        (right // width * height, "`height` was used twice: the map is not square", 1),
        (right // height * width, "`width` was used twice: the map is not square", 1),
        (right // pixels * (height + width), "`height` and `width` were added", 1),
        (right // pixels * (height - kernel + 1) * (width - kernel + 1),
         "the map got smaller; the padding keeps its size", 1),
        (right // pixels * (height + kernel - 1) * (width + kernel - 1),
         "the padding's places were counted; there are `height * width` outputs", 1),
        (right // pixels * (height // 2) * (width // 2), "the sides were halved; stride is 1", 1),
        (each * pixels, "that is the cost of one output channel", 1),
        (outputs * places, "each output sums over the channels of its group, too", 2),
        (c_in * pixels * places, "an output channel is not made from one input channel alone, "
         "and there are `out_channels` of them", 2),
        (pixels * places * c_out // groups, "`in_channels` is missing", 2),
        (each * c_in * pixels, "`in_channels` stands where `out_channels` belongs", 1),
        (places * (c_in + c_out) // groups * pixels, "the channels in and out were added; every "
         "output channel reads its input channels", 2),
        (places * groups * outputs, "an output reads `in_channels // groups` channels, not "
         "`groups`", 2),
        (places * (c_in - groups) * outputs, "the groups were subtracted; they divide", 2),
        ((places // groups) * c_in * outputs, "the kernel's places were divided by the groups; "
         "it is the input channels that are divided", 2),
        (places * c_in * c_out * (height // groups) * (width // groups),
         "the map was divided by the groups; it is the input channels that are divided", 2),
        (places * (c_in // 32) * outputs, "the groups were taken for 32, whatever `groups` says",
         2),
        (c_in * pixels * places + c_in * outputs, "those are two convolutions, one for each "
         "channel and one of 1 x 1; a single one in groups is asked for", None),
        (1 / groups, "that is the share of the work that is left; its number is asked for", 1),
        (right / 1e9, "it is counted in billions", None),
        (right / 1e6, "it is counted in millions", None),
    ]  # fmt: skip
    if groups > 1:
        known += [
            (whole, "the groups save nothing yet; an output channel reads its group alone", 2),
            (whole * groups, "it was multiplied by the groups, and they save work", 2),
            (whole // groups**2, "it was divided by the groups twice; outputs are not fewer", 2),
        ]
    return known


# 10.2


@exercise(
    "10.2",
    expects="a function of order, batch, rank and world",
    right="in every update the processes together have just the images they should have, each "
    "once, and equally many, for one to four processes and with images left over.",
)
def share(attempt):
    """A function: (order, batch, rank, world) -> this process's batches, lists of numbers."""
    for world, rest in ((2, "none"), (3, "even"), (1, "even"), (4, "odd")):
        per, updates = random.choice((5, 6, 7)), random.choice((3, 4))
        batch = world * per
        left = {"none": 0, "even": world * random.choice((2, 3)), "odd": batch - 1}[rest]
        order = random.sample(range(1000, 9999), batch * updates + left)
        order = order if order != sorted(order) else order[::-1]
        what = f"With {world} process{'es' * (world > 1)}{' and images left over' * bool(left)}"
        every = [_batches(call(attempt, list(order), batch, r, world), what) for r in range(world)]
        why, hint = _why_shares(every, order, batch, updates)
        expect(why is None, f"{what} {why}.", hint)


def _batches(value, what):
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    good = isinstance(value, list | tuple)
    expect(good, f"Expected a list of batches, got {show(value)}.")
    parts = [part.tolist() if isinstance(part, torch.Tensor) else part for part in value]
    good = all(isinstance(part, list | tuple) for part in parts)
    expect(good, f"{what} expected a list of *lists* of image numbers, one for each update.", 1)
    deep = any(isinstance(n, list | tuple) for part in parts for n in part)
    expect(
        not deep,
        f"{what} there are lists inside the batches: an update has the image numbers of this "
        "process, and of no other.",
        1,
    )
    return [[int(n) for n in part] for part in parts]


def _why_shares(every, order, batch, updates):
    """(words, hint) for what is wrong with the batches of all processes, or (None, None)."""
    world, per = len(every), batch // len(every)
    whole = [order[u * batch : (u + 1) * batch] for u in range(updates)]
    sizes = {len(part) for batches in every for part in batches}
    counts = {len(batches) for batches in every}
    flat = [[n for part in batches for n in part] for batches in every]
    total = sorted(n for images in flat for n in images)
    if not total:
        return "there are no images in any batch", 1
    if not set(total) <= set(order):
        return "some numbers are not in `order`: take its elements, not their places", 1
    alone = len(set(total)) == len(total)
    if world > 1 and alone and all(_is_stretch(images, order) for images in flat):
        return (
            "each process has one stretch of the order to itself, as in the function above: cut "
            "the order into batches first, and then each batch into shares", 1
        )  # fmt: skip
    if world > 1 and sizes == {batch} and counts == {updates}:
        return "each reads the *whole* batch; it should have its share", 2
    if world > 1 and all(batches == every[0] for batches in every):
        if sizes == {per} and len(every[0]) > updates:
            return "there are more updates than whole batches in `order`: `batch` counts the " \
                "images of *all* processes", 1  # fmt: skip
        return "all processes have the same images: each needs a share of its own, by `rank`", 2
    if world > 1 and sizes == {batch}:
        return "in an update each process has `batch` images; so many they should have " \
            "*together*", 1  # fmt: skip
    if len(counts) > 1:
        return "some have more updates than others: those wait for ever", 1
    count = counts.pop()
    together = [[n for batches in every for n in batches[u]] for u in range(count)]
    if world > 1 and all(len(images) == world for images in together):
        return "in an update they have one image each; together it should be `batch`", 1
    if count > updates:
        return _why_more(together, batch, updates, len(order) % batch), 1
    if count < updates:
        first = all(set(a) == set(b) for a, b in zip(together, whole, strict=False))
        behind = ": the last are missing" if first else ""
        return f"there are fewer updates than whole batches in `order`{behind}", 1
    return _why_images(every, together, whole, order, batch)


def _is_stretch(images, order):
    """Do these images follow one another in the order?"""
    if not images or images[0] not in order:
        return False
    start = order.index(images[0])
    return images == order[start : start + len(images)]


def _why_more(together, batch, updates, left):
    sizes = [len(images) for images in together]
    if sizes[:updates] == [batch] * updates and max(sizes[updates:]) < batch:
        return "an incomplete batch is among them: what is left over is left out"
    if max(sizes) < batch:
        return "in an update the processes together have fewer than `batch` images"
    if len(together) == updates + 1 and left:
        return "there is an update more than whole batches in `order`: what is left over is left " \
            "out, not filled up"  # fmt: skip
    return "there are more updates than whole batches in `order`"


def _why_images(every, together, whole, order, batch):
    world, updates = len(every), len(whole)
    per = batch // world
    known = [
        (lambda images, r: images[r - 1 :: world], "`rank` counts from 0, not from 1"),
        (lambda images, r: images[(r - 1) * per : r * per], "`rank` counts from 0, not from 1"),
        (lambda images, r: images[r : r + per], "the share of a process begins at place `rank` "
         "of the batch, so the shares overlap"),
        (lambda images, r: images[r :: 2], "the shares are those of two processes, whatever "
         "`world` says"),
        (lambda images, r: images[r * (batch // 2) : (r + 1) * (batch // 2)],
         "the shares are those of two processes, whatever `world` says"),
        (lambda images, r: [n for i, n in enumerate(images) if i % world != r],
         "each process has the images of all the others, and not its own"),
    ]  # fmt: skip
    parts = {len(part) for batches in every for part in batches}
    if parts != {per} or any(sorted(a) != sorted(b) for a, b in zip(together, whole, strict=True)):
        for cut, words in known:
            if all(every[r] == [cut(images, r) for images in whole] for r in range(world)):
                return words, 2
    if any(len(images) < batch for images in together):
        return "in some update the processes together have fewer than `batch` images", 2
    if any(len(images) > batch for images in together):
        return "in some update the processes together have more than `batch` images", 2
    if parts != {per}:
        return "the shares of a batch differ in size", 2
    seen = [n for images in together for n in images]
    if len(set(seen)) < len(seen):
        return "an image is read by two processes or twice, and others by none", 2
    got, right = [set(images) for images in together], [set(images) for images in whole]
    if got == right:
        return None, None
    rest = len(order) - updates * batch
    late = [set(order[rest + u * batch : rest + (u + 1) * batch]) for u in range(updates)]
    rows = [set(sorted(order)[u * batch : (u + 1) * batch]) for u in range(updates)]
    if got == right[::-1]:
        return "the updates come in reverse order", 1
    if all(images in right for images in got):
        return "the updates come in another order", 1
    if got == late:
        return "what is left over was left out at the beginning of `order`, not at its end", 1
    if got == rows:
        return "the images come sorted; `order` is shuffled, and stays so", 1
    return "the images that meet in an update are not `order[u * batch : (u + 1) * batch]`", 1


# 10.3


@exercise(
    "10.3",
    expects="a function of network, images, labels and pieces",
    right="the gradients are those of the whole batch, and every piece went forward and backward "
    "before the next, also when the last piece is smaller and when old gradients were there.",
)
def accumulate(attempt):
    """A function: (network, images, labels, pieces) -> None; gradients of the whole batch."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    for count, pieces, old in (
        (random.choice((13, 14)), 3, False),
        (random.choice((12, 15)), 3, False),
        (random.choice((15, 19)), 4, True),
    ):
        _judge_batch(attempt, count, pieces, old)


def _judge_batch(attempt, count, pieces, old):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5))
    network = network.double().eval()
    images, labels = torch.randn(count, 3, 2, 2).double() * 3, torch.randint(5, (count,))
    for p in network.parameters():
        p.grad = torch.randn_like(p) if old else None
    before = copied(network)
    log = _Log(network)
    stopped = None
    kept = images.clone(), labels.clone()
    try:
        attempt(network, *kept, pieces)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, NotImplementedError):
            raise
        stopped = error
    what = "equal pieces" if count % pieces == 0 else "a smaller last piece"
    what = f"{what}{' and old gradients' * old}"
    log.judge_inputs(images, stopped)
    if stopped is not None:
        raise stopped
    for made, after in zip((images, labels), kept, strict=True):
        as_before(made, after, strict=False)
    still = all(map(torch.equal, before.parameters(), network.parameters()))
    expect(still, "The weights have changed: no step belongs here.")
    log.judge_gradients_there()
    log.judge_pieces(images, pieces)
    wanted, known = _known_gradients(before, images, labels, log.places(images))
    got = _vector(p.grad for p in network.parameters())
    if not any(same(got, value, 1e-9) for value, *_ in known):
        words = proportion(got, wanted, 1e-9)
        if words is None and proportion(got, known[0][0], 1e-9):  # of the sum of the means
            words = "the pieces' means count alike, though the last piece is smaller"
        known += [(got, words)] if words else []
    judge(got, wanted, f"the gradients with {what}", known, 2, 1e-9)
    log.judge_turns()
    mode = "The network is in training mode now: it came in evaluation mode, and stays there."
    expect(not any(module.training for module in network.modules()), mode)


class _Log:
    """What went forward (sizes of pieces) and backward, and in which order."""

    def __init__(self, network):
        self.network, self.inputs, self.turns = network, [], []
        self.graph, self.copies = True, False
        network.register_forward_pre_hook(lambda module, args: self.inputs.append(args[0].detach()))
        network.register_forward_hook(lambda *call: self.forward(*call))

    def forward(self, module, args, out):
        self.copies = self.copies or module is not self.network
        self.graph = self.graph and out.requires_grad
        self.turns.append("forward")
        if out.requires_grad:
            out.register_hook(lambda grad: self.turns.append("backward"))

    def places(self, images):
        """For each piece, where its images are in the batch."""
        return [[_place(one, images) for one in x] for x in self.inputs]

    def judge_inputs(self, images, stopped):
        shapes = {tuple(x.shape[1:]) for x in self.inputs}
        expect(
            not shapes or shapes == {tuple(images.shape[1:])},
            "The network got images of another shape: cut the batch along its first axis, into "
            "pieces of whole images.",
            1,
        )
        said = str(stopped or "")
        expect(
            "batch_size" not in said,
            "A piece of the images met labels of another number: cut both in the same way.",
            1,
        )

    def judge_gradients_there(self):
        expect(self.inputs, "The network was never called.", 1)
        copy = "A copy of the network was used: the gradients belong into the one that was given."
        expect(not self.copies, copy, 1)
        expect(
            self.graph,
            "The network ran without a graph, so that no gradient can come: nothing here belongs "
            "under `torch.no_grad()`.",
            1,
        )
        expect(
            "backward" in self.turns,
            "Nothing went back through the network: the loss must stay the tensor that came out "
            "of it, no number, and needs `backward()`.",
            1,
        )
        there = all(p.grad is not None for p in self.network.parameters())
        expect(
            there,
            "Gradients were computed, and at the end there are none in the parameters' `.grad`: "
            "they were never put there, or a `zero_grad()` came after them.",
            1,
        )

    def judge_pieces(self, images, pieces):
        expect(
            len(images) not in [len(x) for x in self.inputs],
            "The network was given the whole batch at once; it has to come in pieces.",
            1,
        )
        seen = [place for places in self.places(images) for place in places]
        expect(None not in seen, "A piece has images that are not in the batch.", 1)
        expect(len(set(seen)) == len(seen), "The network saw an image of the batch twice.", 1)
        absent = sorted(set(range(len(images))) - set(seen))
        if absent:
            late, early = absent[-1] == len(images) - 1, absent[0] == 0
            what = (
                "the last" if late and not early else "the first" if early and not late else "some"
            )
            why = ": the last piece may be smaller, and is not left out" * (what == "the last")
            raise Mistake(f"The network never saw {what} images of the batch{why}.", 1)
        expect(
            len(self.inputs) == pieces,
            "The batch came in another number of pieces than `pieces`, which is how many there "
            "are, not how large they are.",
            1,
        )

    def judge_turns(self):
        expect(
            self.turns == ["forward", "backward"] * len(self.inputs),
            "The gradients are right, but pieces went forward before the one in front of them had "
            "gone backward: so all their graphs are kept, as much memory as the whole batch needs.",
            1,
        )


def _place(one, images):
    return next((i for i, image in enumerate(images) if torch.equal(image, one)), None)


def _vector(gradients):
    return torch.cat([value.detach().flatten() for value in gradients])


def _known_gradients(network, images, labels, places):
    """The right gradients, and (gradients, words, hint) of known mistakes, for these pieces."""
    parameters = list(network.parameters())
    sizes = [len(piece) for piece in places]
    count, pieces, first = len(labels), len(sizes), sizes[0]

    def of(x, y, **how):
        return _vector(torch.autograd.grad(F.cross_entropy(network(x), y, **how), parameters))

    parts = [(images[piece], labels[piece]) for piece in places]
    means = [of(x, y) for x, y in parts]
    shares = [n / count for n in sizes]
    right, total = of(images, labels), of(images, labels, reduction="sum")
    forgetful, seen = torch.zeros_like(right), torch.zeros_like(right)
    for i, mean in enumerate(means):
        forgetful = (forgetful + mean) / 2
        seen = seen + mean * sizes[i] / sum(sizes[: i + 1])
    probabilities = [network(x).softmax(1) for x, _ in parts]
    twice = sum(F.cross_entropy(p, y) * s for p, (_, y), s in
                zip(probabilities, parts, shares, strict=True))  # fmt: skip
    alone = "of the last piece alone: something removes the others', or `backward()` comes once"
    known = [
        (sum(means), "they are the *sum* of the pieces' gradients, without weights", 2),
        (total, "they are a sum over all images, not a mean", 2),
        (total / pieces, "they are a sum over all images, divided by the number of pieces; divide "
         "by the number of images", 2),
        (means[-1], f"they are those {alone}", 1),
        (means[-1] / pieces, f"they are those {alone}; and they are divided by `pieces`", 1),
        (means[-1] * shares[-1], f"they are those {alone}; they have their right weight", 1),
        (means[0], "they are those of the first piece alone", 1),
        (means[0] * shares[0], "they are those of the first piece alone; they have their right "
         "weight", 1),
        (sum(m / s for m, s in zip(means, shares, strict=True)), "the pieces' weights are upside "
         "down: a piece counts by its share of the images", 2),
        (sum(m * n * s for m, n, s in zip(means, sizes, shares, strict=True)), "a piece's *sum* "
         "was weighed by its size as well; a sum has that already", 2),
        (sum(of(x, labels[: len(x)]) * s for (x, _), s in zip(parts, shares, strict=True)),
         "every piece met the labels of the first one", 1),
        (_vector(torch.autograd.grad(twice, parameters)), "softmax was taken before "
         "`F.cross_entropy`, which has one inside", 1),
        (forgetful, "the gradients were halved at every piece: the later ones count more", 2),
        (seen, "each piece was weighed by its share of the images *so far*, not of all", 2),
    ]  # fmt: skip
    if len(set(sizes)) > 1:
        known += [
            (sum(means) / pieces, "the pieces' means count alike, though the last piece is "
             "smaller", 2),
            (sum(means) * shares[0], "the pieces' means all have the weight of the first, though "
             "the last piece is smaller", 2),
            (total / (count // pieces * pieces), "the number of images was rounded down to equal "
             "pieces", 2),
            (total / (first * pieces), "the number of images was rounded up to equal pieces", 2),
        ]  # fmt: skip
    old = [p.grad for p in parameters]
    if old[0] is not None:
        before = _vector(old)
        some = [torch.zeros_like(g) if g.dim() > 1 else g for g in old]
        others = [g if g.dim() > 1 else torch.zeros_like(g) for g in old]
        known += [
            (right + before, "the old gradients are still in them", 1),
            (right + _vector(some), "the old gradients of the biases are still in them", 1),
            (right + _vector(others), "the old gradients of the weights are still in them", 1),
            ((right + before) / 2, "they are averaged with the old gradients; those must be gone",
             1),
        ]  # fmt: skip
    return right, known


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
    reason = {
        ("A", "block"): "the old network had another training, too",
        ("A", "recipe"): "the network is another one, too",
        ("B", "recipe"): "the recipe is the same for both",
        ("B", "mixed"): "the recipe is the same for both, so one thing differs",
        ("C", "block"): "both are ResNet-50, to the last layer",
        ("C", "mixed"): "both are ResNet-50, so one thing differs",
        ("D", "block"): "the two had different training, too",
        ("D", "recipe"): "the two networks have other blocks, too",
    }
    words = choices(attempt, list(truth), KINDS, "sentence")
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
                "6 points, if both were tested on the same images.",
                "The same ResNet-50 gained almost five by another recipe alone.",
            ),
            (
                "About 1 point, since the recipe gives 5.",
                "Another recipe gives another amount.",
            ),
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
        "A run saves weights and epoch number, and goes on from there after a crash. It does "
        "not end where an uninterrupted run ends. What is missing?",
        [
            (
                "The gradients of the last update.",
                "They are made anew in every update.",
            ),
            ("The learning rate.", "It follows from the epoch, or the update, by the schedule."),
            (
                "The optimizer's state.",
                "With SGD its momentum: the first updates after the crash start without it.",
            ),
        ],
        right=2,
    ),
]

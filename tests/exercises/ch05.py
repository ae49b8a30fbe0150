"""Answers to the exercises of chapter 05."""

import copy

import numpy
import torch
from bank import Bank
from torch import nn


def normal(x, eps, over=None, unbiased=False, root=True, inside=True, shift=True):
    over = [a for a in range(x.dim()) if a != 1] if over is None else over
    mean = x.mean(over, keepdim=True) if shift else 0
    var = x.var(over, unbiased=unbiased, keepdim=True)
    if not root:
        return (x - mean) / (var + eps)
    return (x - mean) / (torch.sqrt(var + eps) if inside else var.sqrt() + eps)


def by_transpose(x, eps):
    flat = x.transpose(0, 1).reshape(x.shape[1], -1)
    mean, var = flat.mean(1), flat.var(1, unbiased=False)
    shape = [1, -1] + [1] * (x.dim() - 2)
    return (x - mean.view(shape)) * torch.rsqrt(var + eps).view(shape)


def by_torch(x, eps):
    return nn.functional.batch_norm(x, None, None, training=True, eps=eps)


def without_keepdim(x, eps):
    over = [a for a in range(x.dim()) if a != 1]
    return (x - x.mean(over)) / torch.sqrt(x.var(over, unbiased=False) + eps)


def four_or_less(x, eps):
    return normal(x, eps, over=[a for a in (0, 2, 3) if a < x.dim()])


def own_image(x, eps):
    return normal(x, eps, over=list(range(2, x.dim())))


def own_image_unbiased(x, eps):
    return normal(x, eps, over=list(range(2, x.dim())), unbiased=True)


def in_place(x, eps):
    x -= x.mean([a for a in range(x.dim()) if a != 1], keepdim=True)
    return x


def others(x):
    return [a for a in range(x.dim()) if a != 1]


def one_pass(x, eps):
    """Right on paper; in 32-bit numbers two large ones cancel."""
    over = others(x)
    mean, square = x.mean(over, keepdim=True), (x * x).mean(over, keepdim=True)
    return (x - mean) / torch.sqrt(square - mean**2 + eps)


def flattened(x, eps):
    flat = x.reshape(-1, x.shape[1])
    return normal(flat, eps, over=[0]).reshape(x.shape)


def flattened_to_rows(x, eps):
    flat = x.reshape(x.shape[1], -1)
    return normal(flat, eps, over=[1]).reshape(x.shape)


def by_channel(x, eps):
    """Another way: channel by channel."""
    channels = []
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].mean()
        channels.append(centred / (centred.pow(2).mean() + eps).sqrt())
    return torch.stack(channels, 1)


def mean_square(x, eps):
    centred = x - x.mean(others(x), keepdim=True)
    return centred / torch.sqrt((x**2).mean(others(x), keepdim=True) + eps)


def for_four_axes(x, eps):
    mean, var = x.mean(others(x)), x.var(others(x), unbiased=False)
    return (x - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + eps)


def new_layer_evaluated(x, eps):
    zeros = x.new_zeros(x.shape[1])
    return nn.functional.batch_norm(x, zeros, zeros + 1, eps=eps)


def averaged_variances(x, eps):
    centred = x - x.mean(others(x), keepdim=True)
    over = list(range(2, x.dim())) or [0]
    return centred / torch.sqrt(x.var(over, False, keepdim=True).mean(0, keepdim=True) + eps)


def absolute_deviation(x, eps):
    centred = x - x.mean(others(x), keepdim=True)
    return centred / torch.sqrt(centred.abs().mean(others(x), keepdim=True) ** 2 + eps)


def eps_above(x, eps):
    return normal(x, eps) + eps / torch.sqrt(x.var(others(x), unbiased=False, keepdim=True) + eps)


def numbers(training=0.5, mean=1.6, evaluation=4.5):
    return {"training": training, "running mean": mean, "evaluation": evaluation}


def late_train(network, batches, images, labels, epochs):
    """The mode is set, but when the first batch is already through."""
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    network.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
            network.train()
        network.eval()
        with torch.no_grad():
            errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


def on_validation_too(network, batches, images, labels, epochs):
    return loop()(network, [*batches, (images, labels)], images, labels, epochs)


def loop(
    train="epoch",
    evaluate=True,
    grad_off=True,
    give=None,
    steps=True,
    last=False,
    zero=True,
    first=False,
):
    """The training loop of exercise 5.4 with one thing right or wrong at a time."""

    def run(network, batches, images, labels, epochs):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        errors = []

        def validate():
            if evaluate:
                network.eval()
            with torch.set_grad_enabled(not grad_off):
                wrong = network(images).argmax(1) != labels
            errors.append(wrong.float().mean().item())

        if train == "start":
            network.train()
        for _ in range(epochs):
            if first:
                validate()
            if train == "epoch":
                network.train()
            if train == "flag":
                network.training = True
            if zero == "epoch":
                optimizer.zero_grad()
            for x, y in batches:
                if train == "step":
                    network.train()
                if zero is True:
                    optimizer.zero_grad()
                nn.functional.cross_entropy(network(x), y).backward()
                if steps is True:
                    optimizer.step()
            if steps == "epoch":
                optimizer.step()
            if not first:
                validate()
            if train == "after":
                network.train()
        if last:
            return errors[-1]
        return give(errors) if give else errors

    return run


def in_pieces(network, batches, images, labels, epochs):
    """Another way: manual descent, and a validation in two batches."""
    errors = []
    for _ in range(epochs):
        network.train()
        for x, y in batches:
            network.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter -= 0.05 * parameter.grad
        network.eval()
        wrong = 0
        for x, y in zip(images.split(3), labels.split(3), strict=True):
            wrong += (network(x).argmax(1) != y).sum().item()
        errors.append(wrong / len(labels))
    return numpy.array(errors)


def on_a_copy(network, batches, images, labels, epochs):
    """Another way: the validation runs on a copy in evaluation mode."""
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    network.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            wrong = copy.deepcopy(network).eval()(images).argmax(1) != labels
        errors.append(wrong.float().mean().item())
    return errors


def every_step(network, batches, images, labels, epochs):
    """A validation after every update."""
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    for _ in range(epochs):
        for x, y in batches:
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
            network.eval()
            wrong = network(images).argmax(1) != labels
        errors.append(wrong.float().mean().item())
    return errors


def helper_with_mode(network, batches, images, labels, epochs):
    """Another way: the validation puts back the mode it found."""

    @torch.no_grad()
    def validate():
        mode = network.training
        network.eval()
        wrong = (network(images).argmax(1) != labels).float().mean()
        network.train(mode)
        return wrong

    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.1), []
    network.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        errors.append(validate())
    return torch.stack(errors)


def on_copies(network, batches, images, labels, epochs):
    return loop()(copy.deepcopy(network), batches, images, labels, epochs)


def cleared(network, batches, images, labels, epochs):
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    for _ in range(epochs):
        network.train()
        for x, y in batches:
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.zero_grad()
            optimizer.step()
        network.eval()
        errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


def modes_before_the_batches(network, batches, images, labels, epochs):
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    for _ in range(epochs):
        network.train()
        network.eval()
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


def puts_back_what_came(network, batches, images, labels, epochs):
    """Every epoch in the mode in which the network came."""
    optimizer, errors, mode = torch.optim.SGD(network.parameters(), lr=0.05), [], network.training
    for _ in range(epochs):
        network.train(mode)
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        network.eval()
        errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


def first_batch_only(network, batches, images, labels, epochs):
    return loop()(network, batches[:1], images, labels, epochs)


def on_the_last_batch(network, batches, images, labels, epochs):
    return loop()(network, batches, *batches[-1], epochs)


def together(network, batches, images, labels, epochs):
    """The validation images go through together with the last batch."""
    more = torch.cat([images, batches[-1][0]]), torch.cat([labels, batches[-1][1]])
    return loop()(network, batches, *more, epochs)


def once_at_the_end(network, batches, images, labels, epochs):
    error = loop()(network, batches * epochs, images, labels, 1)
    return error * epochs


def on_some(network, batches, images, labels, epochs):
    return loop()(network, batches, images[:9], labels[:9], epochs)


def looks_twice(network, batches, images, labels, epochs):
    """Another way: the validation computes the loss first, and the error after it."""
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    for _ in range(epochs):
        network.train()
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            nn.functional.cross_entropy(network(images), labels)
            errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


def one_epoch(network, batches, images, labels, epochs):
    return loop()(network, batches, images, labels, 1)


def no_validation(network, batches, images, labels, epochs):
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    return [0.0] * epochs


@torch.no_grad()
def folded(bn, conv, scale=None, shift=None, bias=None, axis=1, weight=None):
    """A new 1 x 1 convolution; what is not given is computed rightly."""
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps) if scale is None else scale
    shift = bn.bias - bn.running_mean * scale if shift is None else shift
    old = 0 if conv.bias is None else conv.bias
    matrix = conv.weight[:, :, 0, 0]
    bias = matrix @ shift + old if bias is None else bias
    new = nn.Conv2d(conv.in_channels, conv.out_channels, 1, conv.stride).to(conv.weight)
    factors = scale[:, None, None] if axis == 1 else scale[:, None, None, None]
    new.weight.copy_(conv.weight * factors)
    new.bias.copy_(bias)
    return new


def by_probing(bn, conv):
    """Reads weight and bias off the two layers' answers to unit inputs."""
    with torch.no_grad():
        eye = torch.eye(conv.in_channels).to(conv.weight)[:, :, None, None]
        nothing = conv(bn(0 * eye[:1]))
        new = nn.Conv2d(conv.in_channels, conv.out_channels, 1, conv.stride).to(conv.weight)
        new.weight.copy_((conv(bn(eye)) - nothing)[:, :, 0, 0].T[:, :, None, None])
        new.bias.copy_(nothing.flatten())
    return new


def on_one_pixel(bn, conv):
    """The bias: what the convolution makes of t, as an image of one pixel."""
    scale = bn.weight / root(bn)
    shift = (bn.bias - bn.running_mean * scale)[None, :, None, None]
    new = copy.deepcopy(conv)
    new.bias = nn.Parameter(conv(shift).flatten().detach())
    new.weight = nn.Parameter((conv.weight * scale[None, :, None, None]).detach())
    return new


def behind(bn, conv):
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    old = 0 if conv.bias is None else conv.bias
    if conv.out_channels != len(scale):
        return folded(bn, conv)
    return folded(bn, conv, axis=0, bias=(old - bn.running_mean) * scale + bn.bias)


def rows(bn, conv):
    return folded(bn, conv, axis=0) if conv.out_channels == conv.in_channels else folded(bn, conv)


def shift_not_through(bn, conv):
    if conv.out_channels != conv.in_channels:
        return folded(bn, conv)
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    old = 0 if conv.bias is None else conv.bias
    return folded(bn, conv, bias=bn.bias - bn.running_mean * scale + old)


def shift_kept(bn, conv):
    """What most will write first: t as the bias, one number for each input channel."""
    new = folded(bn, conv)
    new.bias = nn.Parameter(bn.bias - bn.running_mean * bn.weight / root(bn))
    return new


def adds_no_bias(bn, conv):
    shift = bn.bias - bn.running_mean * bn.weight / root(bn)
    return folded(bn, conv, bias=conv.weight[:, :, 0, 0] @ shift + conv.bias)


def usual_eps(bn, conv):
    return folded(bn, conv, scale=bn.weight / torch.sqrt(bn.running_var + 1e-5))


def plus_mean(bn, conv):
    return folded(bn, conv, shift=bn.bias + bn.running_mean * bn.weight / root(bn))


def old_scaled(bn, conv):
    """The old bias times s: right for a batch norm behind, and it needs as many channels."""
    scale = bn.weight / root(bn)
    shift = conv.weight[:, :, 0, 0] @ (bn.bias - bn.running_mean * scale)
    return shift if conv.bias is None else shift + conv.bias * scale


def without_stride(bn, conv):
    new = folded(bn, conv)
    new.stride = (1, 1)
    return new


def freezes(bn, conv):
    conv.requires_grad_(False)
    return folded(bn, conv)


@torch.no_grad()
def unscaled(bn, conv):
    new = folded(bn, conv)
    new.weight.copy_(conv.weight)
    return new


def without_own_bias(bn, conv):
    without = copy.deepcopy(conv)
    without.bias = None
    return folded(bn, without)


def through_new_weight(bn, conv):
    new = folded(bn, conv)
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    shift = bn.bias - bn.running_mean * scale
    old = 0 if conv.bias is None else conv.bias
    return folded(bn, conv, bias=new.weight[:, :, 0, 0] @ shift + old)


def changes_the_layer(bn, conv):
    new = folded(bn, conv)
    conv.weight.data.copy_(new.weight)
    return new


def with_bias(make):
    """A fold with another bias, `make(weight, t, old bias)`."""

    def fold(bn, conv):
        shift = bn.bias - bn.running_mean * bn.weight / root(bn)
        old = torch.zeros(conv.out_channels).to(shift) if conv.bias is None else conv.bias
        return folded(bn, conv, bias=make(conv.weight[:, :, 0, 0], shift, old))

    return fold


def by_diagonal(bn, conv):
    """Another way: the product with a diagonal matrix."""
    scale = bn.weight / root(bn)
    matrix, shift = conv.weight.flatten(1), bn.bias - bn.running_mean * scale
    new = copy.deepcopy(conv)
    new.weight = nn.Parameter((matrix @ scale.diag()).detach()[:, :, None, None])
    old = 0 if conv.bias is None else conv.bias
    new.bias = nn.Parameter((torch.mv(matrix, shift) + old).detach())
    return new


def no_bias(bn, conv):
    new = folded(bn, conv)
    new.bias = None
    return new


def root(bn):
    return torch.sqrt(bn.running_var + bn.eps)


def norms_alone(network, batches, images, labels, epochs):
    optimizer, errors = torch.optim.SGD(network.parameters(), lr=0.05), []
    for _ in range(epochs):
        for module in network.modules():
            module.train(isinstance(module, nn.BatchNorm2d))
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            errors.append((network(images).argmax(1) != labels).float().mean().item())
    return errors


BANKS = {
    "any_shape": Bank(
        right=[
            normal,
            by_transpose,
            by_torch,
            by_channel,
            lambda x, eps: normal(x.float(), eps),
        ],
        wrong=[
            (lambda x, eps: normal(x, eps, inside=False), "*inside* the root"),
            (lambda x, eps: normal(x, eps, root=False), "not by its square root"),
            (lambda x, eps: normal(x, 0), "given was not added to"),
            (lambda x, eps: normal(x, 1e-5), "given was not added to"),
            (flattened_to_rows, "mixes the channels"),
            (mean_square, "the mean *square*"),
            (for_four_axes, "more axes come back"),
            (new_layer_evaluated, "what a new layer does in evaluation mode"),
            (averaged_variances, "these were averaged"),
            (absolute_deviation, "mean *absolute* distance"),
            (eps_above, "above the fraction line"),
            (lambda x, eps: normal(x, eps, unbiased=True), "the *biased* one"),
            (lambda x, eps: normal(x, eps, shift=False), "was not subtracted"),
            (lambda x, eps: normal(x, eps, over=list(range(x.dim()))), "share one mean"),
            (lambda x, eps: normal(x, eps, over=[0]), "over the images alone"),
            (own_image, "each image got its own mean"),
            (own_image_unbiased, "each image got its own mean"),
            (lambda x, eps: normal(x, eps, unbiased=True, inside=False), "and the variance is the"),
            (lambda x, eps: normal(x, 0, unbiased=True), "given was not added, and"),
            (lambda x, eps: normal(x, eps, over=list(range(x.dim() - 1))), "not the last one"),
            (lambda x, eps: nn.BatchNorm2d(x.shape[1], eps=eps)(x), "the type of `x`"),
            (lambda x, eps: normal(x, eps, over=list(range(1, x.dim()))), "layer normalization"),
            (lambda x, eps: normal(x, eps, over=[0, 2, 3]), "which axes there are"),
            (four_or_less, "are not all there are here"),
            (without_keepdim, "sizes do not fit"),
            (lambda x, eps: x - x.mean([0, *range(2, x.dim())], keepdim=True), "nothing was"),
            (in_place, "in place"),
            (lambda x, eps: normal(x, eps).transpose(0, 1), "in another shape than they came"),
            (lambda x, eps: x, "as it came"),
            (one_pass, "*before* you square"),
            (lambda x, eps: normal(x, eps, over=[1]), "the axis that is *kept*"),
            (flattened, "mixes the channels"),
            (lambda x, eps: (x - 1) / 2, "shifted and scaled, but its mean"),
            (lambda x, eps: normal(x, eps**0.5), "but was divided by another number"),
            (lambda x, eps: normal(x, eps).abs(), "shifted and scaled alike"),
            (lambda x, eps: 0 * x, "came out as the same number"),
            (lambda x, eps: normal(x, eps**2), "ε was squared"),
            (
                lambda x, eps: normal(x, eps) + 2 * x.mean(others(x), keepdim=True),
                "by the right number, but",
            ),
            (lambda x, eps: None, "end with `return`"),
        ],
    ),
    "equal_values": Bank(
        right=[
            numbers(),
            numbers(torch.tensor(0.5), 0.9 * 1 + 0.1 * 7, 2 * 6 / 3 + 0.5),
            numbers() | {"note": "easy"},
            numbers(numpy.float32(0.5), 1 + 0.1 * 6, 2 * (7 - 1) / (9 + 1e-5) ** 0.5 + 0.5),
        ],
        wrong=[
            (numbers(training=7), "the 7 cannot survive"),
            (numbers(training=0), '"training" is not 0: the normalized value is 0'),
            (numbers(training=2.5), "normalizes to 0"),
            (numbers(training=14.5), "without subtracting the mean"),
            (numbers(training=4.5), "training mode takes the batch's"),
            (numbers(training=float("nan")), "Nothing is divided by 0"),
            (numbers(evaluation=float("nan")), "Expected a finite number"),
            (numbers(training=1.0), "and not β"),
            (numbers(evaluation=-3.5), "it is 7 - 1"),
            (numbers(mean=0.6), "the step alone"),
            (numbers(evaluation=4.7164), "the running variance is 9"),
            (numbers(mean=6.4), "weights the *new* value"),
            (numbers(mean=7), "a tenth of the way"),
            (numbers(mean=1), "does move it"),
            (numbers(mean=0.95), "not of the output"),
            (numbers(mean=0.9), "not the 0 after it"),
            (numbers(evaluation=0.5), "evaluation mode takes the running ones"),
            (numbers(evaluation=4), "β is missing"),
            (numbers(evaluation=2), "the normalized value is 2"),
            (numbers(evaluation=1.8333), "not by the variance 9"),
            (numbers(evaluation=14.5), "must be subtracted and the result"),
            (numbers(evaluation=4.2947), "not after it"),
            (numbers(training=4427.689), "before the division"),
            (numbers(training=2), "that is γ alone"),
            (numbers(mean=1.06), "a momentum of 0.01"),
            (numbers(mean=1.7), "the old value counts 0.9, not 1"),
            (numbers(evaluation=100), "for one of 49.75"),
            (numbers(training=3.5), "for one of 1.5"),
            (numbers(mean=3.1), "0.35 of the way"),
            (numbers(mean=-2), "it lies between"),
            (numbers(evaluation=2.5), "γ was left out"),
            (numbers(evaluation=5.1667), "the running mean was not subtracted"),
            (numbers(evaluation=5), "multiplies the normalized value alone"),
            (numbers(evaluation=4.1), "the running mean is still 1"),
            (numbers(mean=...), "running mean is still open"),
            ({"training": 0.5, "evaluation": 4.5}, "running mean is missing"),
            ([0.5, 1.6, 4.5], "Expected a dictionary"),
            (numbers(evaluation="4.5"), "Expected a number"),
        ],
    ),
    "memory": Bank(
        right=[44, 44.0, torch.tensor(44), numpy.int64(44)],
        wrong=[
            (43, "a count that begins at 0"),
            (45, "count the updates"),
            (float("inf"), "never arrives at 3"),
            (0.0228787, "upside down"),
            (2.9709, "That is a running mean"),
            (9.9, "9.9 steps"),
            (19, "a decimal one"),
            (7, "half of the way"),
            (100, "what decides"),
            (22, "within 10 %"),
            (46, "is only near"),
            (2, "weighting the *old* value"),
            (10, "ten steps of a tenth"),
            (9, "the steps do not add up"),
            (459, "TensorFlow's default of 0.99"),
            (43.7, "batches are whole"),
            (44.5, "a whole number of batches, got"),
            (29, "within 5 %"),
            (66, "within 0.1 %"),
            (1, "a momentum of 1"),
            (30, "too early"),
            (90, "too late"),
            (4.605, "the logarithm of 100"),
            (-1, "at least 1"),
            ("a few", "Expected a number"),
        ],
    ),
    "mended_training": Bank(
        right=[
            loop("epoch"),
            loop("step"),
            loop("epoch", grad_off=False),
            helper_with_mode,
            in_pieces,
            on_a_copy,
            looks_twice,
        ],
        wrong=[
            (loop("start"), "between a validation and the next update"),
            (loop("after"), "the network came in that mode"),
            (puts_back_what_came, "the network came in that mode"),
            (modes_before_the_batches, "though the network came in training mode"),
            (torch.no_grad()(loop()), "gradients were switched off"),
            (on_copies, "went through a copy"),
            (cleared, "were cleared before"),
            (first_batch_only, "Some batches never went"),
            (on_the_last_batch, "the error is asked for `images`"),
            (once_at_the_end, "too seldom"),
            (on_some, "some images were left out"),
            (loop("epoch", give=lambda errors: errors[-1:] * len(errors)), "of the last one"),
            (loop("epoch", evaluate=False), "The images of the validation went"),
            (late_train, "between a validation and the next update"),
            (on_validation_too, "The images of the validation went"),
            (loop("never"), "between a validation and the next update"),
            (loop("flag"), "setting `network.training` does not"),
            (loop("epoch", first=True), "A validation came before the first"),
            (loop("epoch", zero=False), "`zero_grad()` is missing"),
            (loop("epoch", zero="epoch"), "`zero_grad()` is missing"),
            (loop("epoch", steps="epoch"), "one `step()` belongs to each batch"),
            (loop("epoch", last=True), "got a single number"),
            (loop("epoch", give=lambda errors: errors[-1:]), "their number is another"),
            (loop("epoch", give=lambda errors: [1 - e for e in errors]), "accuracies"),
            (loop("epoch", give=lambda errors: [100 * e for e in errors]), "per cent"),
            (loop("epoch", give=lambda errors: [2 + e for e in errors]), "lies between 0 and 1"),
            (loop("epoch", give=lambda errors: [e / 3 + 0.01 for e in errors]), "of epoch 1, got"),
            (together, "something else than the batches"),
            (loop("epoch", give=lambda errors: None), "end with `return`"),
            (loop("epoch", steps=False), "no update was made"),
            (one_epoch, "in fewer epochs than asked"),
            (no_validation, "The validation images never went through the network."),
            (every_step, "too often"),
            (norms_alone, "In the updates batch norm was in the right mode"),
        ],
    ),
    "fold_before": Bank(
        right=[
            folded,
            by_probing,
            lambda bn, conv: folded(bn, conv).float(),
            on_one_pixel,
            by_diagonal,
        ],
        wrong=[
            (behind, "*behind* the convolution"),
            (rows, "put on the output channels"),
            (lambda bn, conv: folded(bn, conv, axis=0), "put on the output channels"),
            (shift_not_through, "must go *through* the weight"),
            (shift_kept, "must go *through* the weight"),
            (adds_no_bias, "cannot be used"),
            (
                lambda bn, c: folded(bn, c, scale=root(bn) / bn.weight),
                "multiplied by the standard deviation",
            ),
            (usual_eps, "and not always the same number"),
            (plus_mean, "the mean was added"),
            (lambda bn, c: folded(bn, c, bias=old_scaled(bn, c)), "comes *before* it is added"),
            (freezes, "left its input changed"),
            (without_stride, "comes out in full size"),
            (
                lambda bn, c: folded(
                    bn, c, shift=(bn.bias - bn.running_mean) * bn.weight / root(bn)
                ),
                "β was scaled with the mean",
            ),
            (lambda bn, c: unscaled(bn, c), "the weight was not scaled"),
            (without_own_bias, "own bias was dropped"),
            (through_new_weight, "scaled a second time"),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight / bn.running_var.sqrt()),
                "not added under the root",
            ),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight / (bn.running_var.sqrt() + bn.eps)),
                "inside the root",
            ),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight / (bn.running_var + bn.eps)),
                "not by the standard deviation",
            ),
            (lambda bn, c: folded(bn, c, scale=1 / root(bn)), "γ is missing"),
            (lambda bn, c: folded(bn, c, scale=bn.weight.abs() / root(bn)), "stay so"),
            (lambda bn, c: folded(bn, c, shift=bn.bias), "running mean was not"),
            (
                lambda bn, c: folded(bn, c, shift=-bn.running_mean * bn.weight / root(bn)),
                "β is missing",
            ),
            (lambda bn, c: folded(bn, c, shift=bn.bias - bn.running_mean), "must be scaled"),
            (
                lambda bn, c: folded(bn, c, bias=torch.zeros(c.out_channels)),
                "left out, and the old bias too",
            ),
            (no_bias, "has no bias"),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight / (bn.running_var + 0.1).sqrt()),
                "another number than `bn.eps`",
            ),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight**2 / root(bn)),
                "but by other factors",
            ),
            (with_bias(lambda w, t, b: t.sum() + b), "the numbers in t were summed up"),
            (with_bias(lambda w, t, b: w.sum(1) + b), "the weights were summed up without t"),
            (with_bias(lambda w, t, b: w[:, 0] * t.mean() + b), "the new weight is right, and"),
            (with_bias(lambda w, t, b: b - w @ t), "the constant W t was subtracted"),
            (
                lambda bn, c: folded(bn, c, scale=bn.weight, shift=bn.bias),
                "the running statistics were left out",
            ),
            (lambda bn, c: nn.Sequential(bn, c), "Expected one `nn.Conv2d`"),
            (lambda bn, c: c, "was given back"),
            (lambda bn, c: nn.Conv2d(c.in_channels, c.out_channels, 3), "Expected the new weight"),
            (lambda bn, c: nn.Conv2d(c.in_channels, c.out_channels, 1), "gap is largest"),
            (changes_the_layer, "changed its input in place"),
        ],
    ),
}

"""Measurements on a network. All work on a copy: the model they are given stays as it is."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model):
    """Number of learned numbers; running statistics of batch norm are not among them."""
    return sum(p.numel() for p in model.parameters())


def count_weight_layers(model):
    """Convolutions on the main path plus linear layers: the number in a network's name.

    Shortcuts (`downsample`) and batch norm do not count, as in the paper.
    """
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
        for name, module in model.named_modules()
    )


def multiply_adds(model, image_shape):
    """Multiply-adds of convolutions and linear layers for one image of shape (C, H, W).

    The paper calls these FLOPs. PyTorch's counter, used here, counts a multiply-add as two.
    """
    model, image = copy.deepcopy(model).eval(), _blank(model, image_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class LayerShape:
    """One leaf module as it was called: shapes without the batch dimension."""

    name: str
    kind: str
    input: tuple
    output: tuple
    parameters: int


def shape_trace(model, image_shape):
    """Every leaf module in the order of the forward pass, with shapes -> list of `LayerShape`.

    A module that is called twice appears twice. `image_shape` is (C, H, W).
    """
    model, image, rows = copy.deepcopy(model).eval(), _blank(model, image_shape), []

    def note(name, module, x, y):
        count = count_parameters(module)
        kind = type(module).__name__
        rows.append(LayerShape(name, kind, tuple(x[0].shape[1:]), tuple(y.shape[1:]), count))

    for name, module in model.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda m, x, y, name=name: note(name, m, x, y))
    with torch.no_grad():
        model(image)
    return rows


def receptive_field(model, image_shape):
    """Side of the square of input pixels that one output pixel can depend on -> {layer name: side}.

    By formula, after each convolution and pooling layer on the main path: a window of k pixels adds
    (k - 1) times the product of all strides before it. Adaptive pooling and linear layers, which
    see everything, are left out. `image_shape` is (C, H, W). Raises ValueError for windows that
    are not square.
    """
    modules, field, step, fields = dict(model.named_modules()), 1, 1, {}
    for row in shape_trace(model, image_shape):
        module = modules[row.name]
        windowed = isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
        if windowed and "downsample" not in row.name:
            kernel, stride, dilation = map(_side, _window(module))
            field += dilation * (kernel - 1) * step
            step *= stride
            fields[row.name] = field
    return fields


def _window(module):
    return module.kernel_size, module.stride, getattr(module, "dilation", 1)


def _side(size):
    sides = set(size) if isinstance(size, tuple) else {size}
    if len(sides) > 1:
        raise ValueError(f"a receptive field needs square windows, got {size}")
    return sides.pop()


def influence(model, images):
    """How strongly each input pixel acts on the output pixel in the middle -> (H, W), float64.

    The sum of absolute gradients over images and channels, in evaluation mode; `model` maps images
    (N, C, H, W) to feature maps. 0 where the output cannot feel the pixel at all.
    """
    model = copy.deepcopy(model).double().eval()
    images = images.detach().double().requires_grad_()
    with torch.enable_grad():
        maps = model(images)
        middle = maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2].sum()
    return torch.autograd.grad(middle, images)[0].abs().sum((0, 1))


def activation_norms(model, images):
    """Root mean square of each convolution's and linear layer's output -> {layer name: float}.

    In the model's own mode (train or eval).
    """
    model, norms = copy.deepcopy(model), {}

    def note(name, y):
        norms[name] = y.detach().float().square().mean().sqrt().item()

    for name, module in _weight_layers(model):
        module.register_forward_hook(lambda m, x, y, name=name: note(name, y))
    with torch.no_grad():
        model(images)
    return norms


def gradient_norms(model, images, labels):
    """Euclidean norm of the loss gradient for each layer's weight -> {layer name: float}.

    One batch, cross-entropy, in the model's own mode; convolutions and linear layers in the order
    of the forward pass, shortcuts left out.
    """
    model = copy.deepcopy(model)
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    return {
        name: module.weight.grad.norm().item()
        for name, module in _weight_layers(model)
        if "downsample" not in name
    }


def _weight_layers(model):
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _blank(model, image_shape):
    parameter = next(model.parameters())
    return torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)

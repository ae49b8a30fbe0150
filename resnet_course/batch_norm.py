"""Batch normalization (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167), as chapter 05
builds it, and its disappearance into the convolution before it.

Shapes are (N, C, H, W). Attribute names are PyTorch's, so state dicts go both ways.
"""

import copy

import torch
from torch import nn


def statistics(x):
    """Mean and biased variance of each channel, over images and pixels. (N, C, H, W) -> (C,), (C,)

    Raises ValueError where there is one value per channel: minus its own mean, it is always 0.
    An empty batch has no statistics: NaN.
    """
    if x.numel() == 0:
        nothing = x.new_full((x.shape[1],), torch.nan)
        return nothing, nothing
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {x.shape}: "
            "use a larger batch, or call eval() first"
        )
    return x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)


def normalize(x, mean, var, eps, weight=None, bias=None):
    """Each channel minus its mean, divided by its standard deviation, times weight, plus bias.

    (N, C, H, W), and (C,) for everything that belongs to a channel -> (N, C, H, W)
    """
    x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + eps)
    x = x if weight is None else x * weight[:, None, None]
    return x if bias is None else x + bias[:, None, None]


class BatchNorm2d(nn.Module):
    """(N, C, H, W) -> (N, C, H, W). Gives what `nn.BatchNorm2d` gives.

    Training mode uses the batch's statistics and remembers them; evaluation mode uses what was
    remembered. `momentum` weights the *new* value; None stands for the average of all batches.
    Without `track_running_stats` nothing is remembered, and both modes use the batch. Without
    `bias` there is γ and no β, as in the newest versions of PyTorch.
    """

    _version = 2  # as PyTorch's, whose state dicts count batches from version 2 on

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        *,
        bias=True,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        ones, zeros = torch.ones(num_features), torch.zeros(num_features)
        kept = track_running_stats
        self.register_parameter("weight", nn.Parameter(ones.clone()) if affine else None)
        self.register_parameter("bias", nn.Parameter(zeros.clone()) if affine and bias else None)
        self.register_buffer("running_mean", zeros if kept else None)
        self.register_buffer("running_var", ones if kept else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if kept else None)

    def forward(self, x):
        self.check(x)
        mean, var = self.running_mean, self.running_var
        # Means of 16-bit numbers are taken in 32 bits, as in PyTorch.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.training or mean is None:
            mean, var = statistics(wide)
        if self.training and self.track_running_stats and self.running_mean is not None:
            self.remember(mean, var, count=x.numel() // max(1, x.shape[1]))
        return normalize(wide, mean, var, self.eps, self.weight, self.bias).to(x.dtype)

    @torch.no_grad()
    def remember(self, mean, var, count):
        """Move the running statistics towards these; the variance is stored unbiased."""
        self.num_batches_tracked += 1
        if count == 0:  # an empty batch is counted, and has no statistics
            return
        step = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), step)

    def reset_running_stats(self):
        """Forget all batches: mean 0, variance 1."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    @torch.no_grad()
    def reset_parameters(self):
        """As newly built: γ = 1, β = 0, and no batch remembered."""
        self.reset_running_stats()
        if self.weight is not None:
            self.weight.fill_(1)
        if self.bias is not None:
            self.bias.zero_()

    def check(self, x):
        """Refuse the inputs that PyTorch's layer refuses, with the same kinds of errors."""
        if x.dim() != 4:
            raise ValueError(f"expected 4D input (got {x.dim()}D input)")
        if x.shape[1] != self.num_features:
            # Also without affine and tracking, where nn.BatchNorm2d takes any number of channels.
            raise RuntimeError(f"expected {self.num_features} channel(s), got {x.shape[1]}")
        if not x.is_floating_point():
            raise NotImplementedError(f"not implemented for {x.dtype}: use floating-point numbers")
        if self.eps < 0 or (self.eps == 0 and self.training):
            raise ValueError(f"eps must be positive in training, got {self.eps}")
        own = [self.weight, self.bias, self.running_mean, self.running_var]
        types = {values.dtype for values in own if values is not None}
        half = x.dtype in (torch.float16, torch.bfloat16)
        if not (types <= {x.dtype} or (half and types == {torch.float32})):
            kinds = ", ".join(sorted(map(str, types)))
            raise RuntimeError(f"mixed types: the input is {x.dtype}, the layer {kinds}")

    def _load_from_state_dict(self, state_dict, prefix, metadata, *rest):
        """Old published weights come without a count of the batches: keep the layer's own."""
        name = prefix + "num_batches_tracked"
        if (metadata.get("version") or 0) < 2 and self.num_batches_tracked is not None:
            state_dict.setdefault(name, self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, metadata, *rest)

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


@torch.no_grad()
def fold(conv, bn):
    """One `nn.Conv2d` that does what `conv` and then `bn`, in evaluation mode, do together.

    `bn` is an `nn.BatchNorm2d` or ours. Both stay as they are. The result has the type of `conv`'s
    numbers, and is frozen where `conv` is. Raises TypeError for other kinds of convolution,
    ValueError where `bn` would use the batch's statistics: those cannot be folded.
    """
    if type(conv) is not nn.Conv2d:
        raise TypeError(f"conv must be an nn.Conv2d, got {type(conv).__name__}")
    if bn.training or bn.running_mean is None:
        raise ValueError("bn uses the statistics of the batch: call eval() on it, or track them")
    if conv.out_channels != bn.num_features:
        raise ValueError(f"conv gives {conv.out_channels} channels, bn takes {bn.num_features}")
    scale = 1 / torch.sqrt(bn.running_var + bn.eps)
    shift = -bn.running_mean if conv.bias is None else conv.bias - bn.running_mean
    folded = copy.deepcopy(conv)
    if bn.weight is not None:
        scale = scale * bn.weight
    bias = shift * scale if bn.bias is None else shift * scale + bn.bias
    weight, learn = conv.weight * scale[:, None, None, None], conv.weight.requires_grad
    folded.weight = nn.Parameter(weight.to(conv.weight.dtype), learn)
    folded.bias = nn.Parameter(bias.to(conv.weight.dtype), learn)
    return folded

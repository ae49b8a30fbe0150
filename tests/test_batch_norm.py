"""Oracles: `nn.BatchNorm2d` for the layer, PyTorch's own fusion for `fold`."""

import copy
import inspect
import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from resnet_course.batch_norm import BatchNorm2d, fold

OPTIONS = [
    {},
    {"eps": 0.1, "momentum": 0.7},
    {"momentum": None},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
]
if "bias" in inspect.signature(nn.BatchNorm2d).parameters:  # only in newer versions of torch
    OPTIONS += [{"bias": False}, {"bias": False, "affine": False}]


def lively(layer):
    """γ, β and running statistics that are not just 1 and 0."""
    for name, values in layer.state_dict().items():
        if name != "num_batches_tracked":
            values.uniform_(0.5, 2.0) if "var" in name else values.normal_()
    return layer


def twins(channels, dtype, training, **options):
    theirs = lively(nn.BatchNorm2d(channels, **options)).to(dtype).train(training)
    ours = BatchNorm2d(channels, **options).to(dtype).train(training)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def all_it_gives(layer, x, weights):
    x = x.clone().requires_grad_()
    out = layer(x)
    (out * weights).sum().backward()
    found = {"output": out.detach(), "input gradient": x.grad}
    found |= {f"gradient of {name}": p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    return found | {name: buffer.clone() for name, buffer in layer.named_buffers()}


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (2, 3, 1, 1), (1, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_it_gives_is_what_pytorch_s_layer_gives(options, training, dtype, shape):
    torch.manual_seed(0)
    ours, theirs = twins(3, dtype, training, **options)
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for _ in range(3):  # running statistics need several batches to be seen
        x, weights = 3 * torch.randn(shape, dtype=dtype) + 1, torch.randn(shape, dtype=dtype)
        got, wanted = all_it_gives(ours, x, weights), all_it_gives(theirs, x, weights)
        assert list(got) == list(wanted)
        for name in wanted:
            torch.testing.assert_close(got[name], wanted[name], **close, msg=name)


def test_modes_alternate_as_in_training_and_validation():
    torch.manual_seed(0)
    ours, theirs = twins(3, torch.float64, True)
    for mode in (True, False, True, False):
        x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_gradients_by_finite_differences(training):
    torch.manual_seed(0)
    layer = lively(BatchNorm2d(2)).double().train(training)
    layer.momentum = 0.0  # the same function at every call
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_16_bit_numbers_with_float32_statistics_as_under_autocast(half):
    torch.manual_seed(0)
    ours, theirs = twins(3, torch.float32, True)
    x = (torch.randn(8, 3, 4, 4) + 20).to(half)
    with torch.autocast("cpu", dtype=half):
        got, wanted = ours(x), theirs(x)
    assert got.dtype == wanted.dtype == half
    torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.running_mean.dtype == torch.float32


def test_large_means_do_not_cancel():
    x = (torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 3000).float()
    ours, theirs = BatchNorm2d(1), nn.BatchNorm2d(1)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0.01, atol=0.01)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-3, atol=1e-3)


def test_channels_last_stays_so():
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert BatchNorm2d(3)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_state_dict_is_pytorch_s(options):
    ours, theirs = twins(3, torch.float32, True, **options)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_attributes_and_resets_are_pytorch_s(options):
    ours, theirs = twins(3, torch.float32, True, **options)
    for name in ("affine", "track_running_stats", "eps", "momentum", "num_features"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for layer in (ours, theirs):
        layer.reset_running_stats()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    for layer in (ours, theirs):
        layer.reset_parameters()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert all(p.requires_grad for p in ours.parameters())


def test_tracking_can_be_switched_off_and_on():
    ours, theirs = twins(3, torch.float64, True)
    for tracking, training in itertools.product((False, True), (True, False)):
        x = torch.randn(4, 3, 2, 2, dtype=torch.double) + 5
        for layer in (ours, theirs):
            layer.track_running_stats = tracking
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_old_weights_without_a_count_of_batches_load():
    """As a plain dictionary, as files from before PyTorch 0.4.1, and inside a network."""
    for layer in (nn.BatchNorm2d, BatchNorm2d):
        network = nn.Sequential(nn.Conv2d(1, 3, 1), lively(layer(3)))
        old = dict(network.state_dict())
        del old["1.num_batches_tracked"]
        fresh = nn.Sequential(nn.Conv2d(1, 3, 1), layer(3))
        fresh(torch.randn(2, 1, 2, 2))
        fresh.load_state_dict(old, strict=True)
        assert torch.equal(fresh[1].running_mean, network[1].running_mean)
        assert fresh[1].num_batches_tracked == 1


def test_a_count_that_is_missing_in_new_weights_is_an_error():
    for layer in (nn.BatchNorm2d(3), BatchNorm2d(3)):
        state = layer.state_dict()  # carries its version
        del state["num_batches_tracked"]
        with pytest.raises(RuntimeError, match="num_batches_tracked"):
            layer.load_state_dict(state)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_empty_batch_gives_an_empty_batch(options, training):
    ours, theirs = twins(3, torch.float32, training, **options)
    for shape in ((0, 3, 2, 2), (2, 3, 0, 2)):
        x = torch.zeros(shape)
        assert ours(x).shape == theirs(x).shape == shape
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("of_x", TYPES, ids=str)
def test_mixed_types_are_refused_where_pytorch_refuses_them(of_x, training):
    for of_parameters, of_statistics in itertools.product(TYPES, TYPES):
        made = []
        for kind in (nn.BatchNorm2d, BatchNorm2d):
            layer = kind(3).train(training)
            for name, values in layer.named_parameters():
                setattr(layer, name, nn.Parameter(values.detach().to(of_parameters)))
            for name in ("running_mean", "running_var"):
                setattr(layer, name, getattr(layer, name).to(of_statistics))
            try:
                made.append(layer(torch.randn(4, 3, 2, 2).to(of_x)).dtype)
            except RuntimeError:
                made.append("refused")
        assert made[0] == made[1], (of_x, of_parameters, of_statistics, made)


@pytest.mark.parametrize("eps", [0, 0.0, -1e-3])
def test_an_eps_that_divides_by_nothing_is_refused(eps):
    """As in PyTorch from 2.15 on; before, equal values gave NaN without a word."""
    with pytest.raises(ValueError, match="eps must be positive"):
        BatchNorm2d(3, eps=eps)(torch.ones(2, 3, 2, 2))
    ours, theirs = twins(3, torch.float32, False, eps=0.0)
    x = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("x", "kind", "said"),
    [
        (torch.randn(1, 3, 1, 1), ValueError, "more than 1 value per channel"),
        (torch.randn(4, 3), ValueError, "expected 4D input"),
        (torch.randn(4, 3, 2), ValueError, "expected 4D input"),
        (torch.randn(2, 4, 2, 2), RuntimeError, "3"),
        (torch.ones(2, 3, 2, 2, dtype=torch.long), NotImplementedError, "not implemented"),
    ],
    ids=["one value", "2D", "3D", "channels", "integers"],
)
def test_it_refuses_what_pytorch_s_layer_refuses(x, kind, said):
    for layer in (nn.BatchNorm2d(3), BatchNorm2d(3)):
        with pytest.raises(kind, match=said):
            layer(x)
        assert not layer.running_mean.any()


def test_one_value_is_refused_whenever_the_batch_is_used_and_only_then():
    x = torch.randn(1, 3, 1, 1)
    for layer in (nn.BatchNorm2d, BatchNorm2d):
        with pytest.raises(ValueError, match="more than 1 value"):
            layer(3, track_running_stats=False).eval()(x)
        assert layer(3).eval()(x).shape == x.shape


def test_nothing_is_broadcast_into_one_channel():
    """A layer of one channel must not take three: the shapes would fit by broadcasting."""
    with pytest.raises(RuntimeError, match="1 channel"):
        BatchNorm2d(1)(torch.randn(2, 3, 2, 2))


def pair(bias=False, layer=nn.BatchNorm2d, affine=True, **options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=bias, **options)
    bn = lively(layer(6, affine=affine)).eval()
    if affine:
        nn.init.normal_(bn.weight)
        nn.init.normal_(bn.bias)
    return conv.double(), bn.double()


@pytest.mark.parametrize("layer", [nn.BatchNorm2d, BatchNorm2d])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1, "stride": 2},
        {"groups": 2},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_fold_gives_what_both_give(options, bias, affine, layer):
    conv, bn = pair(bias, layer, affine, **options)
    before = copy.deepcopy([conv.state_dict(), bn.state_dict()])
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    folded = fold(conv, bn)
    torch.testing.assert_close(folded(x), bn(conv(x)))
    torch.testing.assert_close([conv.state_dict(), bn.state_dict()], before)
    assert folded.weight.requires_grad and folded.bias.requires_grad
    if layer is nn.BatchNorm2d and affine:
        fused = fuse_conv_bn_eval(conv.eval(), bn)
        torch.testing.assert_close(folded.state_dict(), fused.state_dict())


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_fold_keeps_type_and_frozenness(dtype, bias, learn):
    conv, bn = pair(bias)
    conv = conv.to(dtype).requires_grad_(learn)
    folded = fold(conv, bn.float())
    assert folded.weight.dtype == folded.bias.dtype == dtype
    assert folded.weight.requires_grad is folded.bias.requires_grad is learn
    fused = fuse_conv_bn_eval(copy.deepcopy(conv).eval(), bn)
    torch.testing.assert_close(folded.weight.detach(), fused.weight.detach())
    torch.testing.assert_close(folded.bias.detach(), fused.bias.detach(), check_dtype=False)


def test_fold_refuses_what_cannot_be_folded():
    conv, bn = pair()
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        fold(conv, copy.deepcopy(bn).train())
    with pytest.raises(ValueError, match="statistics of the batch"):
        fold(conv, nn.BatchNorm2d(6, track_running_stats=False).eval())
    with pytest.raises(ValueError, match="6 channels, bn takes 7"):
        fold(conv, nn.BatchNorm2d(7).eval())
    with pytest.raises(TypeError, match="ConvTranspose2d"):
        fold(nn.ConvTranspose2d(6, 6, 3), bn)

import numpy as np
import pytest
import torch

from resnet_course import data


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def test_digits_shapes_and_statistics(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.image_shape == (1, 8, 8) and digits.in_channels == 1
    assert digits.train_images.mean().abs() < 1e-5
    assert digits.train_images.std() == pytest.approx(1, abs=1e-3)
    assert digits.test_images.mean().abs() > 1e-6  # standardized by the training images alone


def test_pixels_are_the_original_ones(digits):
    pixels = digits.pixels(digits.train_images)
    assert torch.allclose(pixels, pixels.round(), atol=1e-4)
    assert pixels.min() > -1e-4 and pixels.max() < 16 + 1e-4


def test_every_class_has_its_share(digits):
    share = torch.bincount(digits.test_labels) / torch.bincount(digits.train_labels)
    assert share.min() > 0.22 and share.max() < 0.28


def test_seed_decides_the_split(digits):
    assert torch.equal(data.digits(seed=0).test_images, digits.test_images)
    assert not torch.equal(data.digits(seed=1).test_images, digits.test_images)


def test_batches_cover_the_data_once_in_the_seed_s_order(digits):
    def epoch(seed):
        order = torch.Generator().manual_seed(seed)
        return torch.cat([y for _, y in digits.batches(100, order, drop_last=False)])

    assert torch.equal(epoch(3).sort().values, digits.train_labels.sort().values)
    assert torch.equal(epoch(3), epoch(3))
    assert not torch.equal(epoch(3), epoch(4))


def test_drop_last_leaves_full_batches(digits):
    sizes = [len(y) for _, y in digits.batches(128, torch.Generator())]
    assert sizes == [128] * digits.batches_per_epoch(128) == [128] * 11


@pytest.mark.parametrize("size", [0, 1438])
def test_impossible_batch_size(digits, size):
    with pytest.raises(ValueError, match=f"between 1 and 1437, got {size}"):
        next(digits.batches(size, torch.Generator()))


def test_impossible_split():
    with pytest.raises(ValueError, match="between 10 and 1787"):
        data.digits(test_size=5)


def test_shift_moves_each_image_by_at_most_one_pixel():
    images = torch.zeros(50, 2, 5, 5)
    images[:, :, 2, 2] = 1
    moved = data.shift(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum((2, 3)), torch.ones(50, 2))
    assert torch.equal(moved[:, 0], moved[:, 1])  # channels move together
    places = {tuple(place) for place in (moved[:, 0] == 1).nonzero()[:, 1:].tolist()}
    assert places == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)}


# CIFAR-10 as the chapters use it, with made-up pixels of the right shape


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "made-up.npz"
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 50_000), ("test", 10_000)):
        pixels = random.integers(0, 200, (1000, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_images"] = np.tile(pixels, (count // 1000, 1, 1, 1))
        arrays[f"{part}_labels"] = np.arange(count) % 10
    np.savez(path, **arrays)
    return path, arrays


def test_cifar10_is_standardized_pixel_by_pixel(made_up):
    path, arrays = made_up
    images = data.cifar10(path)
    assert images.name == "cifar10" and images.image_shape == (3, 32, 32)
    assert images.classes[0] == "airplane" and len(images.classes) == 10
    assert images.mean.shape == (3, 32, 32) and isinstance(images.std, float)
    assert images.train_images.mean(0).abs().max() < 1e-4  # each pixel's mean, over the images
    assert images.train_images.std() == pytest.approx(1, abs=1e-4)
    assert images.test_images.mean(0).abs().max() > 1e-2
    assert images.train_images.dtype == torch.float32 and images.train_labels.dtype == torch.int64
    pixels = images.pixels(images.test_images[:50]).permute(0, 2, 3, 1)
    assert torch.allclose(pixels, torch.from_numpy(arrays["test_images"][:50]).float(), atol=1e-3)
    assert np.array_equal(images.test_labels, arrays["test_labels"])


def test_load_and_preset(made_up, monkeypatch, capsys, tmp_path):
    assert data.load("digits").name == "digits"
    monkeypatch.setenv("RESNET_COURSE_DATA", str(made_up[0]))
    assert data.preset(torch.device("cuda")) == "cifar10"
    assert capsys.readouterr().out == ""
    assert data.preset("cpu") == "digits"
    assert capsys.readouterr().out.startswith("No CUDA device")
    monkeypatch.setenv("RESNET_COURSE_DATA", str(tmp_path / "none.npz"))
    assert data.preset("cuda") == "digits"
    assert capsys.readouterr().out.count("\n") == 1
    with pytest.raises(data.DataUnavailable, match="There is no file"):
        data.load("cifar10")
    with pytest.raises(ValueError, match='"digits" or "cifar10", got \'cifar\''):
        data.load("cifar")


def test_crop_and_flip_moves_mirrors_and_pads_with_zero():
    images = torch.zeros(2000, 2, 7, 7)
    images[:, :, 3, 2] = 1  # left of the middle: mirrored it is right of it
    moved = data.crop_and_flip(images, torch.Generator().manual_seed(0), pixels=2)
    assert moved.shape == images.shape
    assert torch.equal(moved.sum((2, 3)), torch.ones(2000, 2))
    assert torch.equal(moved[:, 0], moved[:, 1])
    places = (moved[:, 0] == 1).nonzero()[:, 1:]
    columns = {*range(5), *range(2, 7)}
    assert {tuple(p) for p in places.tolist()} == {(r, c) for r in range(1, 6) for c in columns}
    assert (places[:, 1] < 2).sum() + (places[:, 1] > 4).sum() == pytest.approx(800, abs=100)


def test_crop_and_flip_is_crop_then_flip():
    images = torch.randn(64, 3, 32, 32)
    moved = data.crop_and_flip(images, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    crops = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (N, C, 9, 9, 32, 32): all there are
    both = torch.stack([crops, crops.flip(-1)], 1)
    same = (both == moved[:, None, :, None, None]).all(-1).all(-1).all(2)
    assert torch.equal(same.flatten(1).sum(1), torch.ones(64))
    assert 16 < same[:, 1].sum() < 48
    assert torch.equal(moved, data.crop_and_flip(images, torch.Generator().manual_seed(1)))
    assert data.crop_and_flip(images, torch.Generator(), pixels=0).shape == images.shape


def test_augmentation_in_training():
    from resnet_course import resnet, train

    images = data.digits()
    history = train.fit(
        resnet.cifar_plain(8, in_channels=1), images, 1, 0.1, augment=data.crop_and_flip
    )
    assert history.train_loss[0] < 3

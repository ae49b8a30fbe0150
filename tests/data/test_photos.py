"""Pictures as they come from phones, scanners and the web."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_course.data import photos

RED, BLUE = (200, 30, 40), (20, 40, 210)


def halves(width=60, height=40):
    """The left half red, the right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def near(pixels, colour, tolerance=12):
    return bool((pixels.float() - torch.tensor(colour).float()).abs().max() <= tolerance)


def read(image, path, **how):
    image.save(path, **how)
    pixels = photos.read(path)
    assert pixels.dtype == torch.uint8 and pixels.shape[0] == 3 and pixels.is_contiguous()
    return pixels


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif", "gif"])
def test_ordinary_files(tmp_path, ending):
    pixels = read(halves(), tmp_path / f"x.{ending}")
    assert pixels.shape == (3, 40, 60)
    assert near(pixels[:, 20, 5], RED, 30) and near(pixels[:, 20, 55], BLUE, 30)


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_by_its_exif_note(tmp_path, turn):
    """What a camera that was held so writes, comes out upright: red is where it was."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = halves() if turn == 1 else halves().transpose(back[turn])
    note = Image.Exif()
    note[0x0112] = turn
    pixels = read(image, tmp_path / "x.png", exif=note)
    assert pixels.shape == (3, 40, 60)
    assert near(pixels[:, 20, 5], RED) and near(pixels[:, 20, 55], BLUE)


def test_a_broken_exif_note_is_passed_over(tmp_path):
    path = tmp_path / "x.jpg"
    halves().save(path, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12")
    assert photos.read(path).shape == (3, 40, 60)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = Image.new("L", (60, 40), 0)
    grey.paste(255, (30, 0, 60, 40))
    image = grey.convert("RGB").convert(mode) if mode != "LAB" else halves()
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "LAB") else "x.png")
    if mode == "HSV":
        image = image.convert("RGB")
    pixels = read(image, path)
    if mode != "LAB":
        assert near(pixels[:, 20, 5], (0, 0, 0)) and near(pixels[:, 20, 55], (255, 255, 255))


def test_printing_colours_keep_their_sense(tmp_path):
    pixels = read(halves().convert("CMYK"), tmp_path / "x.jpg")
    assert near(pixels[:, 20, 5], RED, 30) and near(pixels[:, 20, 55], BLUE, 30)


def test_sixteen_bits_are_not_cut_off(tmp_path):
    values = np.linspace(0, 65535, 60).astype(np.uint16)[None].repeat(40, 0)
    pixels = read(Image.fromarray(values), tmp_path / "x.png")
    wanted = torch.from_numpy((values / 257).round().astype(np.uint8))
    assert (pixels[0].int() - wanted.int()).abs().max() <= 1
    assert pixels[0].unique().numel() == 60


def test_floating_point_tiff(tmp_path):
    values = np.linspace(0, 1, 60).astype(np.float32)[None].repeat(40, 0)
    pixels = read(Image.fromarray(values), tmp_path / "x.tif")
    assert pixels[0, 0, 0] == 0 and pixels[0, 0, -1] == 255


def test_what_is_transparent_becomes_white(tmp_path):
    image = halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (30, 0, 60, 40))
    pixels = read(image, tmp_path / "x.png")
    assert near(pixels[:, 20, 5], RED) and near(pixels[:, 20, 55], (255, 255, 255))


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = halves().quantize(4)
    hidden = image.getpixel((55, 20))
    pixels = read(image, tmp_path / "x.png", transparency=hidden)
    assert near(pixels[:, 20, 5], RED, 30) and near(pixels[:, 20, 55], (255, 255, 255))


def test_first_frame_of_a_film(tmp_path):
    red, blue = (Image.new("RGB", (40, 40), c) for c in (RED, BLUE))
    pixels = read(red, tmp_path / "x.gif", save_all=True, append_images=[blue])
    assert near(pixels[:, 20, 20], RED, 30)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_large_ones_are_made_smaller(tmp_path, ending):
    pixels = read(halves(6000, 3000), tmp_path / f"x.{ending}")
    assert pixels.shape == (3, 512, 1024)
    assert near(pixels[:, 200, 100], RED, 30) and near(pixels[:, 200, 900], BLUE, 30)


def a_header_alone(width, height):
    """A PNG that says how large it is, and holds next to nothing."""

    def chunk(name, content):
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def jpeg(image=None):
    content = io.BytesIO()
    (image or halves(300, 200)).save(content, "JPEG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.jpg", b"", "is empty: copy it again"),
        ("cut.jpg", jpeg()[: len(jpeg()) // 2], r"is damaged or cut off \(.+\): copy it again"),
        ("notes.txt", b"buy milk\n", "is not a picture in a format that can be read"),
        ("page.png", b"<html>Please log in</html>", "is not a picture"),
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic", "a phone's own format: save it as JPEG"),
        ("vast.png", a_header_alone(30_000, 30_000), "more than 178 million pixels"),
        ("headless.png", a_header_alone(60, 40), "is damaged or cut off"),
        ("dot.png", None, "has only 3 x 5 pixels: give a picture of at least 16 x 16"),
        ("missing.png", False, "is not there"),
    ],
)
def test_what_is_no_picture_gets_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is None:
        Image.new("RGB", (3, 5)).save(path)
    elif content is not False:
        path.write_bytes(content)
    with pytest.raises(photos.NotAPhoto, match=sentence) as caught:
        photos.read(path)
    text = str(caught.value)
    assert text.startswith(name) and text.endswith(".") and "\n" not in text
    assert str(tmp_path) not in text, "a name is enough"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(photos.NotAPhoto, match=r"use photos\.folder"):
        photos.read(tmp_path)


def test_a_folder_of_all_kinds(tmp_path, capsys):
    halves().save(tmp_path / "b.png")
    halves().save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("buy milk")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "inside").mkdir()
    assert list(photos.folder(str(tmp_path))) == ["a.jpg", "b.png"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("notes.txt is not a picture")


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(photos.NotAPhoto, match="holds no picture"):
        photos.folder(tmp_path)
    with pytest.raises(photos.NotAPhoto, match="There is no folder"):
        photos.folder(tmp_path / "nowhere")


def test_the_samples_are_real_photographs():
    samples = photos.samples()
    assert list(samples) == ["china", "flower"]
    for pixels in samples.values():
        assert pixels.shape == (3, 427, 640) and pixels.dtype == torch.uint8
        assert pixels.float().std() > 40

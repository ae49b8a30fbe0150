"""Weights from a hub: a small checkpoint in torchvision's format, from a server in this process."""

import hashlib
import io
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision import models

from resnet_course import resnet
from resnet_course.data import weights
from resnet_course.data.download import DataUnavailable


def checkpoint(state, **how):
    """-> (file name with the beginning of its sha256, bytes)"""
    file = io.BytesIO()
    torch.save(state, file, **how)
    content = file.getvalue()
    return f"small-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


STATE = OrderedDict(resnet.cifar_resnet(8).state_dict())
NAME, CONTENT = checkpoint(STATE)


class Server(BaseHTTPRequestHandler):
    """One folder for each way to behave; the file's name follows."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        how, content = self.path.strip("/").split("/")[0], self.server.content
        asked = self.headers.get("Range")
        self.server.requests.append((self.command, how, asked))
        if how == "missing":
            return self.send_error(404)
        if how == "wrong":
            content = bytes(len(content))
        if how == "page":
            content = b"<html>Please log in</html>"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", place)
        if how != "no-length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return None
        rest = content[start:]
        if how == "half" and not asked:
            rest = rest[: len(rest) // 2]
        step = len(rest) // 20 + 1 if how == "slow" else len(rest)
        for place in range(0, len(rest), step):
            self.wfile.write(rest[place : place + step])
            self.server.sent += len(rest[place : place + step])
            time.sleep(0.02 * (how == "slow"))
        return None


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.content, server.requests, server.sent = CONTENT, [], 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check(state):
    assert list(state) == list(STATE)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)
    resnet.cifar_resnet(8).load_state_dict(state)


def left_in(folder):
    return sorted(p.name for p in folder.iterdir() if p.name not in (".download.lock", "torch"))


def test_once_and_then_from_the_disk(server, tmp_path):
    for _ in range(2):
        check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))
    assert [command for command, _, _ in server.requests] == ["HEAD", "GET"]
    assert left_in(tmp_path) == [NAME]


def test_a_slow_server_is_waited_for(server, tmp_path):
    check(weights.checkpoint(f"{server.url}/slow/{NAME}", tmp_path))


def test_broken_off_half_way_asks_only_for_the_rest(server, tmp_path):
    check(weights.checkpoint(f"{server.url}/half/{NAME}", tmp_path))
    assert server.requests[-1] == ("GET", "half", f"bytes={len(CONTENT) // 2}-")
    assert server.sent == len(CONTENT)


def test_interrupted_download_goes_on_in_the_next_session(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))
    assert server.sent == len(CONTENT) - 1000


def test_a_wrong_beginning_is_thrown_away(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(bytes(1000))
    check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))
    assert server.requests[-1] == ("GET", "good", None)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("wrong", r"wrong file, its sha256 begins [0-9a-f]{8} instead of [0-9a-f]{8}"),
        ("page", "wrong file, its sha256 begins"),
        ("missing", "Not Found"),
        ("no-length", "does not tell the length"),
    ],
)
def test_then_a_good_one_after_a_bad_one(server, tmp_path, way, reason):
    with pytest.raises(DataUnavailable, match=f"could not be downloaded .*{reason}") as caught:
        weights.checkpoint(f"{server.url}/{way}/{NAME}", tmp_path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert left_in(tmp_path) == []
    check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))


def test_a_damaged_copy_is_fetched_again(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:-1] + b"x")
    check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_pytorch_s_own_cache_is_used(server, tmp_path):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT)
    check(weights.checkpoint(f"{server.url}/good/{NAME}", tmp_path))
    assert server.requests == []


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sentence = r"Connection refused.*try again later, or put a copy"
    with pytest.raises(DataUnavailable, match=sentence):
        weights.checkpoint(f"http://127.0.0.1:1/{NAME}", tmp_path)


def test_a_home_folder_is_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("RESNET_COURSE_DATA", raising=False)
    with pytest.raises(DataUnavailable, match=r"into ~/\.cache/resnet-course"):
        weights.checkpoint(f"http://127.0.0.1:1/{NAME}")


def test_a_file_of_images_in_the_variable_means_its_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_COURSE_DATA", str(tmp_path / "cifar10.npz"))
    check(weights.checkpoint(f"{server.url}/good/{NAME}"))
    assert left_in(tmp_path) == [NAME]


class Stranger:
    def __reduce__(self):
        return print, ("this must not be printed",)


@pytest.mark.parametrize("stranger", [Stranger(), {"weight": "text"}, [1, 2]])
def test_nothing_but_tensors_is_read(server, tmp_path, stranger, capsys):
    name, server.content = checkpoint(stranger)
    with pytest.raises(DataUnavailable, match=r"holds no weights \(.+\): delete it"):
        weights.checkpoint(f"{server.url}/good/{name}", tmp_path)
    assert capsys.readouterr().out == ""


def test_a_name_without_a_checksum_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in -SHA256.pth, got 'resnet18.pth'"):
        weights.checkpoint("https://example.org/resnet18.pth", tmp_path)


@pytest.mark.parametrize("network", weights.NETWORKS)
def test_torchvision_still_names_its_files_so(network):
    choice = models.get_model_weights(network).IMAGENET1K_V1
    assert choice.url.rpartition("/")[2].startswith(network + "-")
    assert len(choice.meta["categories"]) == 1000


def test_unknown_networks_are_refused():
    with pytest.raises(ValueError, match=r"one of resnet18, .*got 'resnet20'"):
        weights.imagenet("resnet20")


@pytest.mark.parametrize(
    ("network", "old"),
    [("resnet18", False), ("resnet18", True), ("resnet50", False)],
    ids=["resnet18, zip", "resnet18, before 2020", "resnet50, zip"],
)
def test_torchvision_s_checkpoint_in_our_network(server, tmp_path, network, old):
    """The whole way, with torchvision's own network (random weights), in both file formats."""
    torch.manual_seed(0)
    theirs = getattr(models, network)().eval()
    state = OrderedDict(theirs.state_dict())
    if old:  # the first checkpoints have no such counters
        state = OrderedDict((k, v) for k, v in state.items() if "num_batches" not in k)
    name, server.content = checkpoint(state, _use_new_zipfile_serialization=not old)
    found = weights.imagenet(network, tmp_path, f"{server.url}/half/{name}")
    ours = getattr(resnet, network)()
    ours.load_state_dict(found.state)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs(images))
    assert (found.resize, found.crop, len(found.classes)) == (256, 224, 1000)
    assert found.mean == (0.485, 0.456, 0.406) and found.std == (0.229, 0.224, 0.225)

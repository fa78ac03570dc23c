"""`tombola data` and worlds of the user's own images, from outside; fetching from a small hub."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants
from pictures import numbers_of, picture, png, write_folder, write_numbers, write_rows
from PIL import Image

from tombola.cli import main
from tombola.errors import CallError, WorldError
from tombola.lookup import find_world
from tombola.out import fetch as fetching
from tombola.out.counting import Counting
from tombola.out.fetch import fetch
from tombola.world.data.images import images

# -- a hub ---------------------------------------------------------------------------------------

SHA, CONVERTED_SHA = "a" * 40, "c" * 40
CONVERTED = "refs/convert/parquet"


@dataclass
class Hub:
    """The few answers of the Hugging Face hub that a fetch asks for.

    files: repository, revision and name -> content. Some repositories are gated; some files are
    sent cut short, or as something else than the hub says they are.
    """

    url: str
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    failing: bool = False
    asked: list[str] = field(default_factory=list)

    def add(self, repo: str, name: str, content: bytes, revision: str = SHA) -> None:
        self.files[repo, revision, name] = content

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        self.asked.append(path)
        if self.failing:
            return 500, {}, b""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            repo, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or SHA
            return self._listing(repo, CONVERTED_SHA if revision == CONVERTED else revision)
        if parts[0] == "datasets" and parts[3] == "resolve":
            return self._content("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        return 404, {}, b""

    def _listing(self, repo: str, revision: str) -> tuple[int, dict[str, str], bytes]:
        if all(repo != known for known, _, _ in self.files):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision == CONVERTED_SHA and all((r, v) != (repo, revision) for r, v, _ in self.files):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        siblings = []
        for (known, version, name), content in self.files.items():
            if (known, version) == (repo, revision):
                sha256 = hashlib.sha256(content).hexdigest()
                lfs = {"sha256": sha256, "size": len(content), "pointerSize": 100}
                siblings.append({"rfilename": name, "size": len(content), "lfs": lfs})
        return 200, {}, json.dumps({"id": repo, "sha": revision, "siblings": siblings}).encode()

    def _content(self, repo: str, revision: str, name: str) -> tuple[int, dict[str, str], bytes]:
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        content = self.files[repo, revision, name]
        if name in self.wrong:
            content = content[:-1] + b"?"
        headers = {
            "ETag": '"' + hashlib.sha256(content).hexdigest() + '"',
            "X-Repo-Commit": revision,
        }
        if name in self.cut:
            headers["X-Linked-Size"] = str(len(content))
            content = content[:-20]
        return 200, headers, content


@pytest.fixture
def served() -> Iterator[Hub]:
    """A hub that answers on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The hub that this process asks: what HF_ENDPOINT sets when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return served


def rows(folder: Path, count: int, **more: Any) -> bytes:
    """A parquet file of so many pictures."""
    return write_numbers(folder / "made.parquet", range(count), **more).read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty folder of data sets."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def silent(line: str) -> None:
    """Tells nobody."""


# -- fetching ------------------------------------------------------------------------------------


def test_a_set_is_fetched_and_opened(hub: Hub, data: Path, tmp_path: Path) -> None:
    for name, count in (("train-00000-of-00001", 20), ("test-00000-of-00001", 4)):
        hub.add("org/birds", f"data/{name}.parquet", rows(tmp_path, count, names="abc"))
    hub.add("org/birds", "README.md", b"birds")
    hub.add("org/birds", "data/extra-00000-of-00001.parquet", b"not wanted")
    told: list[str] = []
    found = fetch("org/birds", data, told.append)
    assert found | {"bytes": 0} == {
        "schema": 1,
        "fetched": True,
        "source": "org/birds",
        "revision": SHA,
        "name": "org/birds",
        "path": str(data / "org--birds"),
        "bytes": 0,
        "images": {"train": 20, "test": 4},
        "shape": [3, 2, 3],
        "classes": 3,
        "class_names": ["a", "b", "c"],
        "held_out": ["validation"],
        "problem": None,
    }
    kept = sorted(path for path in data.rglob("*") if path.is_file())
    assert [str(path.relative_to(data)) for path in kept] == [
        "org--birds/data/test-00000-of-00001.parquet",
        "org--birds/data/train-00000-of-00001.parquet",
    ]
    assert found["bytes"] == sum(path.stat().st_size for path in kept)
    assert numbers_of(images("org/birds", data)["test"].inputs) == list(range(4))
    assert told[0].startswith("fetching 1 of 2: org/birds/data/train-00000-of-00001.parquet, ")
    asked = len(hub.asked)
    again = fetch("org/birds", data, told.append)
    assert (again["fetched"], again["images"], len(hub.asked)) == (False, found["images"], asked)


@pytest.mark.parametrize(
    ("name", "repo"), [("mnist", "ylecun/mnist"), ("cifar10", "uoft-cs/cifar10")]
)
def test_the_known_sets(hub: Hub, data: Path, tmp_path: Path, name: str, repo: str) -> None:
    mode, size = ("L", 28) if name == "mnist" else ("RGB", 32)
    for split, count in (("train", 20), ("test", 10)):
        contents = [png(picture(n, size, size, mode)) for n in range(count)]
        path = write_rows(tmp_path / "x.parquet", contents, [n % 10 for n in range(count)])
        hub.add(repo, f"plain/{split}-00000-of-00001.parquet", path.read_bytes())
    found = fetch(name, data, silent)
    assert (found["name"], found["source"], found["classes"]) == (name, repo, 10)
    assert found["class_names"][3] == ("3" if name == "mnist" else "cat")
    from tombola.world.data.cifar10 import cifar10
    from tombola.world.data.mnist import mnist

    splits = (mnist if name == "mnist" else cifar10)(data, validation=5)
    assert {split: len(part) for split, part in splits.items()} == {
        "train": 15,
        "validation": 5,
        "test": 10,
    }


def test_a_set_in_another_format_is_fetched_as_the_hub_converted_it(
    hub: Hub, data: Path, tmp_path: Path
) -> None:
    hub.add("org/birds", "train.tar", b"images")
    hub.add("org/birds", "default/train/0000.parquet", rows(tmp_path, 20), CONVERTED_SHA)
    found = fetch("org/birds", data, silent)
    assert (found["images"], found["revision"]) == ({"train": 20}, CONVERTED_SHA)
    assert found["held_out"] == ["validation", "test"]
    assert any("refs%2Fconvert%2Fparquet" in path for path in hub.asked)


def test_one_of_several_configurations(hub: Hub, data: Path, tmp_path: Path) -> None:
    for part in ("small", "large"):
        hub.add(
            "org/birds", f"{part}/train-0.parquet", rows(tmp_path, 4 if part == "small" else 20)
        )
    with pytest.raises(
        WorldError, match=r"org/birds holds several sets: large, small\. Name one, as"
    ):
        fetch("org/birds", data, silent)
    assert list(data.iterdir()) == []
    found = fetch("org/birds/large", data, silent)
    assert (found["name"], found["images"]) == ("org/birds/large", {"train": 20})
    assert len(images("org/birds/large", data)["train"]) == 16


def test_sets_that_need_an_import_first_are_kept(hub: Hub, data: Path, tmp_path: Path) -> None:
    contents = [png(picture(n, width=2 + n % 3)) for n in range(20)]
    path = write_rows(tmp_path / "x.parquet", contents, [n % 2 for n in range(20)], names="ab")
    hub.add("org/photos", "train-0.parquet", path.read_bytes())
    found = fetch("org/photos", data, silent)
    assert (found["images"], found["shape"]) == ({"train": 20}, None)
    assert "images of 3 different sizes; `tombola data import PATH --size N`" in found["problem"]
    write_rows(path, contents, list(range(20)), columns=("img", "fine"), told=False)
    hub.add("org/fine", "train-0.parquet", path.read_bytes())
    found = fetch("org/fine", data, silent)
    assert "which column holds the labels?" in found["problem"]
    assert "--label COLUMN" in found["problem"]
    assert found["images"] is None


def broken(hub: Hub, folder: Path, what: str) -> None:
    hub.add("org/birds", "train-0.parquet", rows(folder, 20))
    hub.add("org/birds", "test-0.parquet", rows(folder, 4))
    if what == "gated":
        hub.gated.add("org/birds")
    elif what == "cut":
        hub.cut.add("test-0.parquet")
    elif what == "wrong":
        hub.wrong.add("test-0.parquet")
    elif what == "failing":
        hub.failing = True
    elif what == "no images":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": ["a"], "label": [1]}), folder / "text.parquet")
        hub.add("org/birds", "train-0.parquet", (folder / "text.parquet").read_bytes())
    elif what == "no parquet":
        hub.files = {("org/birds", SHA, "train.tar"): b"images"}
    elif what == "damaged":
        hub.add("org/birds", "test-0.parquet", rows(folder, 4)[:-5])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("gated", r"org/birds is gated: .*Ask for it at http.*/datasets/org/birds.*HF_TOKEN"),
        ("cut", r"org/birds did not come whole"),
        ("wrong", r"test-0\.parquet came with SHA-256 [0-9a-f]{64}; the hub says"),
        ("failing", r"http.* answered 500 about org/birds\. Try again later"),
        ("no images", r"train-0\.parquet: which column holds the images\?"),
        ("no parquet", r"org/birds has no parquet files on the hub, and the hub has made none"),
        ("damaged", r"test-0\.parquet cannot be read as parquet"),
    ],
)
def test_what_did_not_come_whole_leaves_nothing(
    hub: Hub, data: Path, tmp_path: Path, what: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub's repeated tries
    broken(hub, tmp_path, what)
    with pytest.raises(Exception, match=message) as caught:
        fetch("org/birds", data, silent)
    expected = 1 if what in ("cut", "wrong", "failing") else 2
    assert getattr(caught.value, "exit_status", None) == expected
    assert list(data.iterdir()) == []


def test_no_such_set_and_no_such_name(hub: Hub, data: Path) -> None:
    with pytest.raises(WorldError, match=r"has no data set org/none, or shows it only to some"):
        fetch("org/none", data, silent)
    with pytest.raises(
        CallError, match=r"no set 'minst' to fetch\. Did you mean mnist\? There are"
    ):
        fetch("minst", data, silent)
    (data / "mnist").mkdir()
    with pytest.raises(WorldError, match=r"data/mnist is there already, but holds no images"):
        fetch("mnist", data, silent)
    assert [urlsplit(path).path for path in hub.asked] == ["/api/datasets/org/none"]


def test_no_network_and_no_wish_for_one(
    hub: Hub, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WorldError, match=r"http://127\.0\.0\.1:9 cannot be reached .*HF_ENDPOINT"):
        fetch("mnist", data, silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WorldError, match=r"HF_HUB_OFFLINE forbids to fetch it\. Unset it"):
        fetch("mnist", data, silent)
    assert (list(data.iterdir()), hub.asked) == ([], [])


def test_no_room(hub: Hub, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/birds", "train-0.parquet", rows(tmp_path, 20))

    class Usage:
        free = 100

    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(WorldError, match=r"org/birds has .* kB, and .*data has room for 100 bytes"):
        fetch("org/birds", data, silent)


def test_an_interrupted_fetch_leaves_nothing(hub: Hub, data: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        hub.add("org/birds", f"{split}-0.parquet", rows(tmp_path, 20))

    def stop(line: str) -> None:
        if "2 of 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("org/birds", data, stop)
    assert list(data.iterdir()) == []


def test_a_process_of_its_own(served: Hub, data: Path, tmp_path: Path) -> None:
    """It asks the hub that the environment names, and says what is held out without anybody having
    set logging up."""
    served.add("org/birds", "train-0.parquet", rows(tmp_path, 20))
    birds(tmp_path / "birds")
    named = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "hf"), "TOMBOLA_DATA": str(data)}
    script = (
        "import sys; from tombola.cli import main\n"
        "sys.exit(main(['data', 'fetch', 'org/birds', '--json'])\n"
        "    or print('and') or main(['data', 'import', 'birds', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **named},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fetched, imported = map(json.loads, done.stdout.split("and\n"))
    assert (fetched["images"], imported["images"]["test"]) == ({"train": 20}, 20)
    told = done.stderr.splitlines()
    assert told[0].startswith("fetching 1 of 1: org/birds/train-0.parquet, ")
    assert (
        "birds has no test split: 20 of its 200 images are held out as test, the same ones each "
        "time."
    ) in told


# -- the commands --------------------------------------------------------------------------------


@pytest.fixture
def tombola(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs a command; status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TOMBOLA_DATA", str(data))

    def run(*argv: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(part) for part in argv])
        return (status, *capsys.readouterr())

    return run


def birds(root: Path) -> Path:
    """Two classes, 100 images of each."""
    return write_folder(root, {"owl": range(100), "bat": range(100, 200)}, width=8, height=8)


def test_import_then_list_then_use(tombola: Any, tmp_path: Path, data: Path) -> None:
    birds(tmp_path / "birds")
    status, out, _ = tombola("data", "import", "birds")
    assert status == 0
    assert out.splitlines()[0].split()[:1] == ["birds"]
    assert "160 train, 20 validation, 20 test; 8 x 8, colour" in out
    assert "classes  bat, owl" in out
    assert "tombola find imp --on conv2@birds" in out
    status, out, _ = tombola("data", "list", "--json")
    document = json.loads(out)
    (found,) = document["sets"]
    assert (status, document["schema"], document["folder"]) == (0, 1, str(data))
    assert found["images"] == {"train": 160, "validation": 20, "test": 20}
    assert (found["shape"], found["classes"], found["held_out"]) == ([3, 8, 8], 2, [])
    assert [entry["name"] for entry in document["to_fetch"]] == ["mnist", "cifar10"]
    _, out, _ = tombola("data", "list")
    assert "birds  160 train, 20 validation, 20 test  8 x 8, colour        2" in out
    assert "1 set of images in" in out
    assert "tombola data fetch: mnist, cifar10, org/name of the Hugging Face hub" in out
    world = find_world("lenet@birds")
    assert (world.name, len(world.train), len(world.test)) == ("lenet@birds", 160, 20)


def test_import_says_what_it_wrote(tombola: Any, tmp_path: Path, data: Path) -> None:
    birds(tmp_path / "birds")
    status, out, _ = tombola("data", "import", "birds", "--as", "small", "--size", "4", "--json")
    document = json.loads(out)
    assert (status, document["source"], document["name"]) == (0, "birds", "small")
    assert (document["shape"], document["path"]) == ([3, 4, 4], str(data / "small"))
    status, out, err = tombola("data", "import", "nowhere")
    assert (status, out) == (2, "")
    assert err == "tombola: nowhere: there is no such folder or file.\n"


def test_the_list_names_what_cannot_be_used(tombola: Any, data: Path, tmp_path: Path) -> None:
    birds(data / "birds")
    write_folder(data / "mixed", {"a": [1]}, width=5)
    write_folder(data / "mixed", {"b": [1, 2, 3]})
    (data / "bad").mkdir()
    (data / "bad" / "train.parquet").write_bytes(b"PAR1")
    (data / "kernels").mkdir()
    (data / ".cache").mkdir()
    (data / "file").touch()
    status, out, _ = tombola("data", "list")
    assert status == 0
    text = " ".join(out.split())
    assert "mixed: images of 2 different sizes" in text
    assert "train.parquet cannot be read as parquet" in text
    assert "3 sets of images" in text and "kernels" not in text
    _, out, _ = tombola("data", "list", "--json")
    assert [found["name"] for found in json.loads(out)["sets"]] == ["bad", "birds", "mixed"]
    status, out, _ = tombola("data", "list", "--data", tmp_path / "none")
    assert (status, out.splitlines()[0]) == (0, f"0 sets of images in {tmp_path / 'none'}")


def test_the_real_sets_are_listed(tombola: Any, mnist_data: Path, cifar_data: Path) -> None:
    _, out, _ = tombola("data", "list", "--json", "--data", mnist_data)
    found = {entry["name"]: entry for entry in json.loads(out)["sets"]}
    assert found["mnist"]["images"] == found["mnist"]["images"] | {"train": 60_000, "test": 10_000}
    assert (found["mnist"]["shape"], found["cifar10"]["shape"]) == ([1, 28, 28], [3, 32, 32])
    assert found["cifar10"]["class_names"][0] == "airplane"
    assert found["cifar10"]["problem"] is None


def test_commands_are_explained(tombola: Any) -> None:
    status, out, _ = tombola("data", "--help")
    assert status == 0 and all(command in out for command in ("list", "fetch", "import"))
    _, out, _ = tombola("find", "--help")
    assert "conv2@flowers" in out


# -- worlds of one's own images ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["conv2@./birds", "resnet20@birds", "lenet@./grey"])
def test_a_network_on_images(tombola: Any, tmp_path: Path, text: str) -> None:
    birds(tmp_path / "birds")
    classes = {"a": range(50), "b": range(50), "c": range(50)}
    write_folder(tmp_path / "grey", classes, mode="L", width=5)
    world = find_world(text)
    grey = "grey" in text
    assert (world.name, len(world.test)) == (text, 15 if grey else 20)
    assert world.test.inputs.shape[1:] == ((1, 2, 5) if grey else (3, 8, 8))
    outputs = world.new_network(0)(world.batch(world.test, torch.arange(2)).inputs)
    assert outputs.shape == (2, 3 if grey else 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv3@birds", ["no network 'conv3'. Did you mean conv", "before the @ of conv3@birds"]),
        ("conv2@bird", ["no set of images 'bird'", "Did you mean birds?"]),
        ("conv2@", ["want a set of images after the @"]),
        ("conv2@./nowhere", ["no set of images './nowhere'"]),
        ("@birds", ["no network ''"]),
    ],
)
def test_networks_and_images_that_are_not_there(
    tombola: Any, data: Path, text: str, says: list[str]
) -> None:
    (data / "birds").mkdir()
    status, out, err = tombola("plan", "imp", "--on", text)
    assert (status, out) == (2, "")
    assert all(part in " ".join(err.split()) for part in says), err


def test_a_study_of_ones_own_images(tombola: Any, tmp_path: Path) -> None:
    birds(tmp_path / "birds")
    plan = ("plan", "imp", "--on", "lenet@./birds", "--seeds", "1", "--json")
    status, out, err = tombola(*plan)
    assert status == 0, err
    assert json.loads(out)["world"] == "lenet@./birds"


# -- counting ------------------------------------------------------------------------------------


class Stream:
    """Keeps what is written to it."""

    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        return None


@pytest.mark.parametrize("terminal", [True, False])
def test_long_work_says_how_far_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream: Any = Stream(terminal)
    with Counting(stream) as count:
        for done in range(1, 31):
            now += 1.0
            count("train", done * 100, 3_000)
    shown = [part for part in stream.text.replace("\r\x1b[K", "\n").split("\n") if part]
    seconds = range(2, 31) if terminal else range(2, 31, 10)
    assert shown == [f"train: {100 * second:,} of 3,000 images" for second in seconds]
    assert stream.text.endswith("\r\x1b[K" if terminal else "\n")


def test_short_work_says_nothing() -> None:
    stream: Any = Stream(terminal=True)
    with Counting(stream) as count:
        count("train", 10, 10)
    assert stream.text == ""


def test_transparent_images_are_used_as_they_are_stored(tombola: Any, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "icons" / name).mkdir(parents=True)
        for number in range(5):
            image = Image.new("RGBA", (4, 4), (number, 2, 3, 0))
            image.save(tmp_path / "icons" / name / f"{number}.png")
    assert tombola("data", "import", "icons")[0] == 0
    shown = images("icons")["train"].inputs
    assert shown.shape[1:] == (3, 4, 4)
    assert shown[:, 1].unique().tolist() == [2]

import io
import pathlib
import re
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

from experiments._page.app import MOST_BYTES
from experiments._page.app import search_app
from experiments._page.shown_gallery import ShownGallery
from keras_dml.data import ImageDataset
from keras_dml.data import gallery_folder
from keras_dml.evaluation import embed
from keras_dml.search import LanceGallery
from keras_dml.search import load_gallery
from keras_dml.search import save_gallery
from tests.experiments.page_gallery import CLASSES
from tests.experiments.page_gallery import write_run
from tests.experiments.programs import run_program

testclient = pytest.importorskip("starlette.testclient", reason="the page's server")

SENT = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def embedder(run):
    return keras.models.load_model(run / "embedding.keras")


@pytest.fixture(scope="module")
def gallery(run, embedder):
    return ShownGallery(load_gallery(run / "index"), embedder, k=6)


@pytest.fixture(scope="module")
def client(run, gallery):
    app = search_app(gallery, run, ["127.0.0.1"])
    return testclient.TestClient(app, base_url="http://127.0.0.1:8000")


def image_file(color, size=(40, 30), suffix="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, suffix)
    return file.getvalue()


def found(page):
    """(class, score) of each image that a page shows."""
    items = re.findall(
        r'<span class="score">(.*?)</span> <span class="class">(.*?)</span>', page
    )
    return [(class_name, float(score)) for score, class_name in items]


@pytest.mark.parametrize("mode", ["cosine", "code", "exact"])
def test_image_that_is_sent_finds_those_of_its_color(client, mode):
    answer = client.post(f"/search?by={mode}", content=image_file("red"), headers=SENT)
    assert answer.status_code == 200
    names, scores = zip(*found(answer.text), strict=True)
    assert names[:5] == ("red",) * 5
    assert len(names) == 6
    assert list(scores) == sorted(scores, reverse=True)
    assert (max(scores) <= 0) == (mode == "code")
    assert ("bits that differ" in answer.text) == (mode == "code")


def test_image_of_the_gallery_finds_others_like_it(client, gallery):
    for number in range(len(gallery)):
        _, class_name = gallery.about(number)
        page = client.get(f"/like/{number}").text
        shown = class_name.replace("<", "&lt;").replace(">", "&gt;")
        assert [name for name, _ in found(page)][:4] == [shown] * 4
        # The image itself is shown above, and not among what it is like.
        assert f'href="/like/{number}?' not in page


def test_number_is_the_row_of_a_path_that_is_there_twice(tmp_path, run, embedder):
    images = gallery_folder(run.parent / "photos")
    paths = images.paths[[0, 0, 7]]
    twice = ImageDataset(paths, np.array([0, 0, 1]), ("a", "b"))
    save_gallery(
        tmp_path / "twice", embed(embedder, twice, 16, verbose=0), twice, 14, 16
    )
    shown = ShownGallery(load_gallery(tmp_path / "twice"), embedder, k=3)
    assert shown.numbers() == [0, 1, 2]
    assert shown.about(2) == (str(paths[2]), "b")
    assert [
        number
        for number, _ in shown.search(
            shown.pixels_of(pathlib.Path(paths[2]).read_bytes()), "cosine"
        )
    ] == [2, 0, 0]
    assert [number for number, _ in shown.like(2, "cosine")] == [0, 0]


def test_class_names_are_escaped_everywhere(client):
    assert CLASSES[1] == "<b>white</b>"
    sent = client.post("/search", content=image_file("white"), headers=SENT).text
    for page in (client.get("/").text, client.get("/like/0").text, sent):
        assert "<b>white" not in page
    assert "&lt;b&gt;white" in sent


def test_images_are_jpeg_files_by_number(client, gallery):
    for number in range(20):
        answer = client.get(f"/image/{number}")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as shown:
            name, _ = gallery.about(number)
            with Image.open(name) as original:
                apart = np.subtract(shown, original, dtype=float)
        assert np.abs(apart).mean() < 10
    for path in (
        "/image/20",
        "/like/20",
        "/image/99999999999999999999",
        "/like/x",
        f"/image/{'9' * 5000}",
    ):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/image/..%2f..%2fetc%2fpasswd",
        "/image//etc/passwd",
        "/figure/..%2f..%2fconfig.json",
        "/figure/curves.png",
        "/figure/config",
        "/page.py",
        "/app.py",
    ],
)
def test_nothing_is_served_by_path(client, path):
    assert client.get(path).status_code == 404


def test_gallery_is_shown_in_pages(client, monkeypatch):
    monkeypatch.setattr("experiments._page.app._IMAGES_A_PAGE", 8)
    pages = [client.get(f"/?page={page}&by=code").text for page in (1, 2, 3)]
    numbers = [int(n) for page in pages for n in re.findall(r"/like/(\d+)\?", page)]
    assert sorted(numbers) == list(range(20))
    assert "20 images" in pages[0]
    assert 'href="/?page=2&amp;by=code"' in pages[0]
    assert 'rel="next"' not in pages[2]
    assert client.get("/?page=99").text.count("<li>") == 4
    assert client.get("/?page=x").status_code == 400


def test_run_shows_its_table_and_figures(client):
    page = client.get("/run").text
    assert re.search(r"float +100\.00", page)
    assert 'src="/figure/curves"' in page
    assert "/figure/retrieval" not in page
    assert client.get("/figure/curves").headers["content-type"] == "image/png"


def test_browsers_are_told_to_do_nothing_else(client):
    for path in ("/", "/image/0", "/page.js", "/like/99", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", ""])
def test_other_names_of_the_server_are_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 400
    answer = client.post(
        "/search", content=image_file("red"), headers={**SENT, "host": host}
    )
    assert answer.status_code == 400


def bomb():
    """A PNG file whose header says 30,000 × 30,000, and nothing else."""
    file = bytearray(image_file("red", (1, 1)))
    file[16:24] = (30_000).to_bytes(4, "big") * 2
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return bytes(file)


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 415, "no image"),
        (b"no image", 415, "no image"),
        (image_file("red")[:60], 415, "can&#x27;t be read"),
        (image_file("red", (8000, 7000)), 413, "50,000,000 pixels"),
        (bomb(), 413, "50,000,000 pixels"),
        (bytes(MOST_BYTES + 1), 413, "20 MB"),
        (image_file("red", suffix="TIFF"), 415, "send a JPEG, PNG"),
    ],
    ids=["empty", "text", "cut", "large", "bomb", "bytes", "TIFF"],
)
def test_what_can_not_be_searched_for_is_one_message(client, content, status, says):
    answer = client.post("/search", content=content, headers=SENT)
    assert answer.status_code == status
    assert answer.text.startswith('<p class="message" role="alert">')
    assert says in answer.text
    assert len(answer.text) < 200


def test_other_sites_cannot_send_images_by_a_form(client):
    # A form has one of three content types, which a browser sends without asking.
    for kind in ("text/plain", "multipart/form-data", None):
        headers = {} if kind is None else {"content-type": kind}
        answer = client.post("/search", content=image_file("red"), headers=headers)
        assert answer.status_code == 415
    assert client.get("/search").status_code == 405
    assert client.post("/search?by=x", content=b"", headers=SENT).status_code == 400


def test_page_follows_a_gallery_that_grows(run, embedder, tmp_path):
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    photos = run.parent / "photos"
    growing = LanceGallery.create(tmp_path / "growing", 3, 14, 16)
    growing.put(embedder, [str(photos / "red" / "0.png")], classes=["red"])
    gallery = ShownGallery(load_gallery(growing.uri), embedder, k=5)
    client = testclient.TestClient(
        search_app(gallery, run, ["testserver"]), raise_server_exceptions=True
    )
    assert client.get("/").text.count("<li>") == 1
    growing.put(embedder, [str(photos / "blue" / "1.png")], classes=["blue"])
    sent = client.post("/search", content=image_file("blue"), headers=SENT).text
    assert [name for name, _ in found(sent)] == ["blue", "red"]
    assert client.get("/").text.count("<li>") == 2
    growing.delete([str(photos / "red" / "0.png")])
    assert client.get("/").text.count("<li>") == 1
    assert client.get("/like/0").status_code == 404
    assert client.get("/image/0").status_code == 404
    assert client.get("/image/1").status_code == 200
    assert found(client.get("/like/1").text) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run=nowhere"], "--run='nowhere' is not the folder of a run"),
        ([], "--run must be given"),
        (["--run=nowhere", "--port=-1"], "--port"),
        (["--run=nowhere", "--host=::1"], "--host must be a name or an IPv4 address"),
    ],
)
def test_wrong_argument_is_one_line(arguments, message):
    finished = run_program("search_page", *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1

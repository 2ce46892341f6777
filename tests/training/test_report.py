import dataclasses
import html.parser
import importlib
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from keras_dml.data import ImageDataset
from keras_dml.training import write_report

module = importlib.import_module("keras_dml.training.report")
GREEN, RED, BLACK = "#1a9641", "#d7191c", "#000000"
HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "accuracy": [0.1, 0.2, 0.3],
    "test_recall@1": [0.25, float("nan"), 0.5],
    "test_recall@10": [0.5, float("nan"), 0.75],
}


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)


def colored(folder, labels, names):
    """An ImageDataset of one-colored images, red as their row times ten."""
    paths = [str(folder / f"{row}.png") for row in range(len(labels))]
    for row, path in enumerate(paths):
        Image.new("RGB", (9, 9), (10 * row, 0, 0)).save(path)
    return ImageDataset(paths, labels, tuple(names))


def cells(figure):
    """Rows of what is shown: (row of the image, frame, class, caption), None if not."""
    grid = figure.axes
    columns = grid[0].get_gridspec().ncols
    shown = []
    for axis in grid:
        if not axis.axison:
            assert not axis.images
            shown.append(None)
            continue
        (image,) = axis.images
        pixels = np.asarray(image.get_array())
        assert pixels.shape == (96, 96, 3)
        frames = {
            matplotlib.colors.to_hex(spine.get_edgecolor())
            for spine in axis.spines.values()
        }
        assert len(frames) == 1
        name, caption = axis.get_title().split("\n")
        shown.append((int(pixels[0, 0, 0]) // 10, *frames, name, caption))
    return [shown[start : start + columns] for start in range(0, len(shown), columns)]


def check_cells(dataset, embeddings, queries, gallery, seed=0):
    """Compares the figure with neighbors found one by one; gives its queries."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = np.array(dataset.class_names)[dataset.labels]
    rows = cells(module._retrieval_figure(embeddings, dataset, seed))
    asked = []
    for (query, frame, name, caption), *found in rows:
        assert (frame, name, caption) == (BLACK, names[query], "query")
        assert query in queries
        asked.append(query)
        others = [row for row in gallery if row != query]
        nearest = sorted(others, key=lambda row: -(unit[row] @ unit[query]))[:5]
        expected = [
            (
                row,
                GREEN if names[row] == names[query] else RED,
                names[row],
                f"{unit[row] @ unit[query]:.2f}",
            )
            for row in nearest
        ]
        assert found == expected + [None] * (5 - len(expected))
    assert len(set(asked)) == len(asked) == min(12, len(queries))
    return asked


def test_queries_are_beside_their_nearest_images_framed_by_class(tmp_path, embeddings):
    dataset = colored(tmp_path, np.arange(21) % 4, "abcd")
    first = check_cells(dataset, embeddings, range(21), range(21))
    other = check_cells(dataset, embeddings, range(21), range(21), seed=1)
    assert first != other


def test_queries_look_in_the_gallery_alone(tmp_path, embeddings):
    dataset = colored(tmp_path, np.arange(21) % 3, "abc")
    dataset = dataclasses.replace(dataset, is_query=np.arange(21) % 3 == 0)
    queries = np.flatnonzero(dataset.is_query)
    check_cells(dataset, embeddings, queries, np.flatnonzero(~dataset.is_query))


@pytest.mark.parametrize("count", [2, 4, 6])
def test_few_images_leave_places_empty(tmp_path, embeddings, count):
    dataset = colored(tmp_path, np.arange(count) % 2, "ab")
    check_cells(dataset, embeddings[:count], range(count), range(count))


def test_gallery_smaller_than_a_row_leaves_places_empty(tmp_path, embeddings):
    dataset = colored(tmp_path, [0, 0, 1, 1], "ab")
    dataset = dataclasses.replace(dataset, is_query=[True, False, True, False])
    check_cells(dataset, embeddings[:4], [0, 2], [1, 3])


def test_twin_of_a_query_is_shown_and_the_query_itself_is_not(tmp_path):
    embeddings = np.array([[1, 0], [1, 0], [0, 1], [0.1, 1]], np.float32)
    dataset = colored(tmp_path, [0, 1, 0, 1], "ab")
    for (query, *_), *found in cells(module._retrieval_figure(embeddings, dataset, 0)):
        rows = [cell[0] for cell in found if cell]
        assert sorted([query, *rows]) == [0, 1, 2, 3]
        assert rows[0] == {0: 1, 1: 0, 2: 3, 3: 2}[query]


def test_curves_show_what_was_measured_in_percent():
    loss, recall = module._curves_figure(HISTORY, {}).axes
    (line,) = loss.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == [2.0, 1.0, 0.5]
    lines = {line.get_label(): line for line in recall.lines}
    assert set(lines) == {"test R@1", "test R@10"}
    assert lines["test R@1"].get_xdata().tolist() == [1, 3]
    assert lines["test R@1"].get_ydata().tolist() == [25, 50]
    assert lines["test R@10"].get_ydata().tolist() == [50, 75]


def test_curves_do_without_recall():
    _, recall = module._curves_figure({"loss": [1.0]}, {}).axes
    assert not recall.lines


def test_curve_of_recall_starts_at_the_untrained_model():
    loss, recall = module._curves_figure(HISTORY, {"test_recall@1": 0.125}).axes
    lines = {line.get_label(): line for line in recall.lines}
    assert lines["test R@1"].get_xdata().tolist() == [0, 1, 3]
    assert lines["test R@1"].get_ydata().tolist() == [12.5, 25, 50]
    assert lines["test R@10"].get_xdata().tolist()[0] > 0
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3]


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.texts = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        if self.tags:
            self.texts.setdefault(self.tags[-1], data)


@pytest.mark.filterwarnings("error")
def test_page_shows_the_pictures_and_quotes_its_texts(tmp_path):
    names = ("<b>bold</b> & $x^$", "a class whose name is much too long to be shown")
    dataset = colored(tmp_path, [0, 1, 0, 1], names)
    embeddings = np.eye(4, dtype=np.float32) + 0.1
    title, table = "run <1> & co", "  1 | <script>alert(1)</script> & 99.9\n  2 | x"
    folder = tmp_path / "deep" / "report"
    write_report(folder, title, embeddings, dataset, HISTORY, table)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["curves.png", "index.html", "retrieval.png"]
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert sorted(page.images) == ["curves.png", "retrieval.png"]
    assert page.texts["title"] == page.texts["h1"] == title
    assert page.texts["pre"] == table
    assert "script" not in page.tags
    for name in page.images:
        with Image.open(folder / name) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 100
            assert len(image.convert("RGB").getcolors(10**6)) > 10


def test_long_class_name_is_cut_at_its_start(tmp_path):
    name = "family/genus/species_of_a_long_name_7"
    dataset = colored(tmp_path, [0, 0], [name])
    ((query, _),) = [
        row[:2]
        for row in cells(
            module._retrieval_figure(np.eye(2, dtype=np.float32), dataset, 0)
        )[:1]
    ]
    assert query[2] == "…" + name[-21:]


def test_room_is_imported_without_matplotlib_and_the_report_asks_for_it(tmp_path):
    dataset = colored(tmp_path, [0, 1, 0, 1], "ab")
    code = f"""
import sys
sys.modules["matplotlib"] = None
import numpy as np
import keras_dml.training
paths = {dataset.paths.tolist()}
dataset = keras_dml.data.ImageDataset(paths, [0, 1, 0, 1], ("a", "b"))
embeddings = np.eye(4, dtype=np.float32)
try:
    history = {{"loss": [1.0]}}
    keras_dml.training.write_report("report", "", embeddings, dataset, history, "")
except ImportError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = finished.stdout.splitlines()
    assert line.startswith("the report needs matplotlib, which is not installed")
    assert line.endswith('pip install "keras_dml[experiments]"')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": None}, "title must be text; got None"),
        ({"embeddings": np.ones((3, 4))}, "each of the 21 images; got 3"),
        ({"history": {}}, "history must have the loss"),
    ],
)
def test_what_makes_no_report_is_refused(changes, message, tmp_path, embeddings):
    dataset = colored(tmp_path, np.arange(21) % 2, ("a", "b"))
    given = {"title": "A run", "embeddings": embeddings, "history": HISTORY}
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report", dataset=dataset, table="", **given | changes)
    assert not (tmp_path / "report").exists()

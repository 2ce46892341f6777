import keras
import pytest
from PIL import Image

from keras_dml.data import gallery_folder
from keras_dml.evaluation import embed
from keras_dml.search import LanceGallery
from keras_dml.search import save_gallery
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), classes=3) / "test"


@pytest.fixture(scope="module")
def folder_of_run(tmp_path_factory, photos):
    """What search needs of a run: its model and its gallery; and one that grows."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    pixels = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    embedder = keras.Model(pixels, keras.layers.Dense(8)(x))
    embedder.save(folder / "embedding.keras")
    (folder / "config.json").write_text('{"resize": 16}')
    images = gallery_folder(photos)
    embeddings = embed(embedder, images, 16, verbose=0)
    save_gallery(folder / "index", embeddings, images, 14, 16)
    if pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's"):
        gallery = LanceGallery.create(folder / "growing", 8, 14, 16)
        classes = [images.class_names[label] for label in images.labels]
        gallery.put_embeddings(embeddings, images.paths, classes)
    return folder


def search(folder, image, *arguments):
    finished = run_program("search", f"--run={folder}", f"--image={image}", *arguments)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout.splitlines()


def test_nearest_are_printed_and_drawn(folder_of_run, photos, tmp_path):
    image = photos / "test class 1" / "3.jpg"
    picture = tmp_path / "deep.png"
    lines = search(folder_of_run, image, "--k=2", f"--picture={picture}")
    assert lines[:3] == [
        "The search is exact.",
        str(image),
        f"  1.000  test class 1  {image}",
    ]
    assert lines[4:] == [str(picture)]
    with Image.open(picture) as drawn:
        assert drawn.width > 2 * drawn.height


def test_codes_and_conditions_are_searched(folder_of_run, photos):
    image = photos / "test class 1" / "3.jpg"
    growing = f"--index={folder_of_run / 'growing'}"
    _, _, *found = search(folder_of_run, image, growing, "--codes")
    scores = [int(line.split()[0]) for line in found]
    assert scores == sorted(scores, reverse=True)
    assert f"  0  test class 1  {image}" in found
    assert len(found) == 10
    where = "--where=class = 'test class 2'"
    _, _, *found = search(folder_of_run, image, growing, where)
    assert len(found) == 6
    assert all(" test class 2 " in line for line in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--where=class = 'x'"],
            "--where needs a gallery of experiments.index --kind",
        ),
        (["--index=nowhere"], "no gallery in 'nowhere'"),
        (["--picture=no/such/file.png"], "--picture="),
        (["--image=none.jpg"], "no image file 'none.jpg'"),
    ],
)
def test_what_cannot_be_searched_is_one_line(folder_of_run, photos, arguments, message):
    image = photos / "test class 1" / "3.jpg"
    finished = run_program(
        "search", f"--run={folder_of_run}", f"--image={image}", *arguments
    )
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1

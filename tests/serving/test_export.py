import importlib
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_dml.data import ImageDataset
from keras_dml.models import embedding_model
from keras_dml.serving import export
from tests.fuzz.mutations import image_files

SIDE, RESIZE = 14, 16
PROGRAM = pathlib.Path(__file__).with_name("serve_without_keras.py")
FORMATS = image_files()
UNREADABLE = {
    "nothing": b"",
    "text": b"not an image",
    "JPEG cut in its header": FORMATS["JPEG"][:50],
    "JPEG cut in the middle": FORMATS["JPEG"][:400],
    "PNG with a wrong checksum": FORMATS["PNG"][:-30] + bytes(30),
    "PNG that claims 100,000 × 100,000 pixels": FORMATS["PNG"][:16]
    + (100_000).to_bytes(4, "big") * 2
    + FORMATS["PNG"][24:],
    "animated WebP without alpha": FORMATS["WEBP animated opaque"],
    "BMP of 1 bit": FORMATS["BMP 1 bit"],
}


def embedder_of(dim):
    keras.utils.set_random_seed(dim)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    # TensorFlow's oneDNN convolution gives a wrong shape for a batch of no images.
    x = keras.layers.Conv2D(12, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    return embedding_model(keras.Model(images, x), dim)


@pytest.fixture(scope="module", params=[16, 11], ids=lambda dim: f"dim {dim}")
def embedder(request):
    return embedder_of(request.param)


@pytest.fixture(scope="module")
def exported(embedder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "model" / "1"
    export(embedder, folder)
    return folder


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(exported).signatures


@pytest.fixture(scope="module")
def files(noise, tmp_path_factory):
    """An ImageDataset of PNG and JPEG files, in RGB, gray and RGBA, of many sizes."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for row, path in enumerate(noise.paths[:8]):
        with Image.open(path) as image:
            image = image.convert(("RGB", "L", "RGBA", "RGB")[row % 4])
            paths.append(f"{folder}/{row}.{('png', 'jpg', 'png', 'jpg')[row % 4]}")
            image.save(paths[-1])
    return ImageDataset(paths, [0] * 8, ["a"])


def contents(dataset):
    return [pathlib.Path(path).read_bytes() for path in dataset.paths]


def pixels_of(dataset):
    return np.concatenate(list(dataset.images(SIDE, RESIZE))).astype(np.float32)


def middles_by_pillow(dataset):
    images = []
    margin = (RESIZE - SIDE) // 2
    for path in dataset.paths:
        with Image.open(path) as image:
            square = image.convert("RGB").resize(
                (RESIZE, RESIZE), Image.Resampling.BILINEAR
            )
        images.append(np.asarray(square)[margin:-margin, margin:-margin])
    return np.array(images, np.float32)


def assert_served(outputs, embeddings, tolerance=1e-5):
    embedding, code = np.array(outputs["embedding"]), np.array(outputs["code"])
    assert (embedding.dtype, code.dtype) == (np.float32, np.uint8)
    assert embedding.shape == embeddings.shape
    np.testing.assert_allclose(embedding, embeddings, atol=tolerance)
    np.testing.assert_array_equal(code, np.packbits(embedding > 0, axis=1))


def test_images_give_what_the_keras_model_gives(embedder, signatures, files):
    images = pixels_of(files)
    assert_served(
        signatures["images"](images=tf.constant(images)),
        embedder(images, training=False).numpy(),
    )


def test_encoded_images_give_what_evaluation_gives(embedder, signatures, files):
    assert_served(
        signatures["serving_default"](encoded=tf.constant(contents(files))),
        embedder.predict(pixels_of(files), verbose=0),
    )


def test_encoded_images_are_resized_and_cropped_as_pillow_would(
    embedder, signatures, files
):
    # Pixels may differ by one gray level of 255.
    assert_served(
        signatures["serving_default"](encoded=tf.constant(contents(files))),
        embedder(middles_by_pillow(files), training=False).numpy(),
        tolerance=0.05,
    )


def test_served_pixels_are_evaluations_and_within_one_gray_level_of_pillow(
    files, tmp_path
):
    images = keras.Input((SIDE, SIDE, 3))
    export(keras.Model(images, keras.layers.Flatten()(images)), tmp_path / "1")
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    pixels = served(encoded=tf.constant(contents(files)))["embedding"]
    pixels = np.reshape(pixels, (-1, SIDE, SIDE, 3))
    np.testing.assert_array_equal(pixels, pixels_of(files))
    assert np.abs(pixels - middles_by_pillow(files)).max() <= 1


def test_resize_is_obeyed(tmp_path, files):
    embedder = embedder_of(8)
    export(embedder, tmp_path / "1", resize=20)
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    images = np.concatenate(list(files.images(SIDE, 20))).astype(np.float32)
    assert_served(
        served(encoded=tf.constant(contents(files))),
        embedder(images, training=False).numpy(),
    )


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_image_fails_alone(signatures, files, kind):
    encoded = [*contents(files)[:3], UNREADABLE[kind], *contents(files)[3:]]
    outputs = signatures["serving_default"](encoded=tf.constant(encoded))
    np.testing.assert_array_equal(outputs["valid"], [True] * 3 + [False] + [True] * 5)
    assert not np.any(outputs["embedding"][3])
    assert not np.any(outputs["code"][3])
    # Bit for bit, beside an image of the same batch that is black instead.
    images = np.insert(pixels_of(files), 3, 0, axis=0)
    expected = signatures["images"](images=tf.constant(images))
    for name in ("embedding", "code"):
        np.testing.assert_array_equal(
            np.delete(outputs[name], 3, axis=0), np.delete(expected[name], 3, axis=0)
        )


def test_batch_may_have_no_readable_image(signatures):
    bad = list(UNREADABLE.values())
    outputs = signatures["serving_default"](encoded=tf.constant(bad * 4))
    for name in ("embedding", "code", "valid"):
        assert not np.any(outputs[name]), name
        assert outputs[name].shape[0] == 4 * len(bad)


@pytest.mark.parametrize("embedder", [11], indirect=True)
def test_unreadable_first_and_last_images_fail_alone(signatures, files):
    bad = list(UNREADABLE.values())
    encoded = [bad[0], *contents(files), *bad]
    outputs = signatures["serving_default"](encoded=tf.constant(encoded))
    assert list(np.flatnonzero(outputs["valid"])) == [1, 2, 3, 4, 5, 6, 7, 8]
    alone = signatures["serving_default"](encoded=tf.constant(contents(files)))
    np.testing.assert_allclose(
        outputs["embedding"][1:9], alone["embedding"], rtol=0, atol=1e-6
    )


def test_input_and_output_names_are_the_documented_ones(signatures):
    for name, given in ("serving_default", "encoded"), ("images", "images"):
        arguments, keywords = signatures[name].structured_input_signature
        assert (arguments, set(keywords)) == ((), {given})
        outputs = {"embedding", "code"} | ({"valid"} if given == "encoded" else set())
        assert set(signatures[name].structured_outputs) == outputs


def test_folder_holds_nothing_half_written(exported):
    assert sorted(os.listdir(exported.parent)) == ["1", "batching_parameters.txt"]
    assert exported.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("embedder", [11], indirect=True)
def test_model_runs_where_keras_is_not_installed(embedder, exported, files, tmp_path):
    images = pixels_of(files)
    encoded = contents(files)
    encoded[3:5] = UNREADABLE["text"], UNREADABLE["animated WebP without alpha"]
    arrays = {
        f"encoded{row}": np.frombuffer(content, np.uint8)
        for row, content in enumerate(encoded)
    }
    np.savez(tmp_path / "inputs.npz", images=images, **arrays)
    subprocess.run(
        [sys.executable, PROGRAM, exported, "inputs.npz", "outputs.npz"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    embeddings = embedder(images, training=False).numpy()
    valid = ~np.isin(np.arange(8), (3, 4))
    expected = {"images": embeddings, "encoded": embeddings * valid[:, None]}
    with np.load(tmp_path / "outputs.npz") as arrays:
        for kind in ("images", "encoded", "c/images", "c/encoded"):
            for part, count in ("", 8), ("/one", 1), ("/none", 0):
                outputs = {
                    name: arrays[f"{kind}{part}/{name}"]
                    for name in ("embedding", "code")
                }
                assert_served(outputs, expected[kind.removeprefix("c/")][:count])
                assert outputs["code"].shape == (count, 2)
                if kind.endswith("encoded"):
                    np.testing.assert_array_equal(
                        arrays[f"{kind}{part}/valid"], valid[:count]
                    )


@pytest.mark.slow
@pytest.mark.parametrize("embedder", [11], indirect=True)
def test_saved_model_cli_lists_both_signatures(exported):
    program = (sys.executable, "-m", "tensorflow.python.tools.saved_model_cli")
    shown = subprocess.run(
        [*program, "show", "--dir", exported, "--all"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    _, default = shown.split("signature_def['serving_default']:")
    default = default.split("The MetaGraph")[0].split("signature_def")[0]
    assert "inputs['encoded'] tensor_info:" in default
    assert "dtype: DT_STRING" in default
    _, images = shown.split("signature_def['images']:")
    images = images.split("signature_def")[0]
    assert "shape: (-1, 14, 14, 3)" in images
    for signature in (default, images):
        assert "outputs['embedding'] tensor_info:" in signature
        assert "shape: (-1, 11)" in signature
        assert "outputs['code'] tensor_info:" in signature
        assert "dtype: DT_UINT8" in signature
    assert "outputs['valid'] tensor_info:" in default
    assert "dtype: DT_BOOL" in default


@pytest.mark.slow
@pytest.mark.parametrize("embedder", [11], indirect=True)
def test_saved_model_cli_runs_a_batch_with_an_unreadable_image(exported, tmp_path):
    program = (sys.executable, "-m", "tensorflow.python.tools.saved_model_cli")
    encoded = [FORMATS["JPEG"], UNREADABLE["text"], FORMATS["PNG"]]
    np.save(tmp_path / "encoded.npy", np.array(encoded, "S"))
    subprocess.run(
        [
            *(*program, "run", "--dir", exported, "--tag_set", "serve"),
            *("--signature_def", "serving_default", "--outdir", tmp_path),
            *("--inputs", f"encoded={tmp_path / 'encoded.npy'}"),
        ],
        timeout=300,
        check=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "valid.npy"), [True, False, True])
    embedding = np.load(tmp_path / "embedding.npy")
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), [1, 0, 1], atol=1e-5)


def test_existing_folder_is_refused_and_left_as_it_was(embedder, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "kept").write_text("kept")
    with pytest.raises(FileExistsError, match="Name the next version"):
        export(embedder, tmp_path / "1")
    assert os.listdir(tmp_path) == ["1"]
    assert os.listdir(tmp_path / "1") == ["kept"]


def test_failure_leaves_nothing(embedder, tmp_path, monkeypatch):
    def fail(archive, folder):
        (pathlib.Path(folder) / "half").write_text("half")
        raise OSError("no space left")

    # Not by its name in the package, which is that of the function.
    module = importlib.import_module("keras_dml.serving.export")
    monkeypatch.setattr(module, "write_archive", fail)
    with pytest.raises(OSError, match="no space left"):
        export(embedder, tmp_path / "model" / "1")
    assert os.listdir(tmp_path / "model") == []


@pytest.mark.parametrize("resize", [13, 0, -16, 16.0, "16", True])
def test_wrong_resize_is_refused_before_anything_is_written(
    embedder, tmp_path, monkeypatch, resize
):
    module = importlib.import_module("keras_dml.serving.export")
    monkeypatch.setattr(module, "atomic_folder", None)
    with pytest.raises(
        ValueError, match=f"resize must be an integer of at least 14; got {resize!r}"
    ):
        export(embedder, tmp_path / "model" / "1", resize)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(None, None, 3), (16, 20, 3)])
def test_model_without_a_square_input_is_refused(tmp_path, shape):
    inputs = keras.Input(shape)
    embedder = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ValueError, match="square images of a fixed size"):
        export(embedder, tmp_path / "1")
    assert os.listdir(tmp_path) == []


def test_trunk_is_refused(tmp_path):
    inputs = keras.Input((SIDE, SIDE, 3))
    trunk = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    with pytest.raises(ValueError, match="Export the embedding model, not its trunk"):
        export(trunk, tmp_path / "1")
    assert os.listdir(tmp_path) == []


def test_folder_that_cannot_be_made_is_named_before_the_work(embedder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="cannot be made"):
        export(embedder, tmp_path / "file" / "1")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_are_refused_with_the_way_out(
    embedder, tmp_path, monkeypatch, backend
):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(
        ValueError, match=f"KERAS_BACKEND={backend}: where KERAS_BACKEND=tensorflow, "
    ):
        export(embedder, tmp_path / "1")
    assert os.listdir(tmp_path) == []

r"""Makes a gallery of your own images, to be searched with the model of a run.

python -m experiments.index --run=saved_models/RUN --data_dir=photos \
    --output_dir=photos.index

Takes the images in photos/<class>/, and those in photos/ itself as of no class. To
search them:

python -m experiments.search --run=saved_models/RUN --index=photos.index \
    --image=query.jpg

An approximate index is calibrated: it searches no more than it needs to agree with
exact search on --agreement of the --k nearest. The agreement is saved with it and
printed.

Such a gallery is sealed, and a new folder. With --kind=lance it grows: the same command
again embeds the images that are new or changed, and drops those that are gone. It may
be stopped at any time, and goes on where it was. It is searched exactly up to 20,000
images, and above that through an index that is calibrated too.

What experiments.embed_corpus wrote becomes such a gallery without a model:

python -m experiments.index --from=photos.corpus --output_dir=photos.gallery
"""

import importlib.util
import itertools
import os
import pathlib

import keras
import numpy as np
from absl import flags

from experiments._corpus.gallery import holds_only
from experiments._corpus.gallery import put_shards
from experiments._corpus.gallery import whole_shards
from experiments._corpus.record import read_record
from experiments._corpus.record import sha256_of_file
from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from experiments._lib.measure import describe_agreement
from keras_dml import data
from keras_dml import evaluation
from keras_dml import search
from keras_dml._files import check_new_folder
from keras_dml._similarity import unit_rows
from keras_dml.search.lance_gallery import holds_lance_gallery

_LANCE = "lance"
_AT_ONCE = 1000
_EXACT_UP_TO = 20_000
_TRIED = 4
_SAME = 0.98  # cosine; the same weights in half precision reach 0.999

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder of the images, with or without one folder a class."
)
_FROM = flags.DEFINE_string(
    "from",
    None,
    "A folder that experiments.embed_corpus wrote, in place of --data_dir. The gallery "
    "is one of --kind=lance; --run is not needed.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "The folder of the gallery: a new one, or with --kind=lance also one to update.",
)
_KIND = flags.DEFINE_enum(
    "kind",
    "exact",
    (*search.KINDS, _LANCE),
    "How to search. Up to about 100,000 images exact search is often the fastest; "
    'lance grows, and needs pip install "keras_dml[gallery]".',
)
_K = flags.DEFINE_integer(
    "k", 10, "How many neighbors an index is calibrated for.", lower_bound=1
)
_AGREEMENT = flags.DEFINE_float(
    "agreement",
    0.99,
    "The share of the exact nearest neighbors that an approximate index is to find.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "The seed of an approximate index.", lower_bound=0, upper_bound=2**31 - 1
)
flags.register_validator(
    "agreement",
    lambda share: 0 < share <= 1,
    message="must be a share, above 0 and at most 1",
)
flags.mark_flags_as_required(["output_dir"])


def main(argv: list[str]) -> None:
    """Images → embeddings → gallery."""
    del argv
    gallery = _index_images() if _FROM.value is None else _index_corpus()
    agreement = describe_agreement(gallery, _K.value)
    print(f"{_OUTPUT_DIR.value}: {len(gallery):,} images. {agreement}")


def _index_images():
    missing = [flag for flag in (_RUN, _DATA_DIR) if flag.value is None]
    if missing:
        names = " and ".join(f"--{flag.name}" for flag in missing)
        raise ValueError(f"{names} must be given, or --from. --help lists the flags.")
    run = pathlib.Path(_RUN.value)
    _check_apart(_OUTPUT_DIR.value, _DATA_DIR.value)
    if _KIND.value != _LANCE:
        if holds_lance_gallery(pathlib.Path(_OUTPUT_DIR.value)):
            raise FileExistsError(
                f"--output_dir={_OUTPUT_DIR.value!r} is a gallery that grows. "
                "--kind=lance updates it, or name a new folder."
            )
        check_new_folder(_OUTPUT_DIR.value, "--output_dir")
    if _KIND.value == "hnsw" and not importlib.util.find_spec("faiss"):
        raise ImportError('--kind=hnsw needs faiss: pip install "keras_dml[faiss]"')
    resize = load_run_config(run)["resize"]
    images = data.gallery_folder(_DATA_DIR.value, check_files=not skips_bad_images())
    embedder = load_embedder(run / "embedding.keras")
    if _KIND.value == _LANCE:
        return _update(embedder, images, resize)
    return _write_sealed(embedder, images, resize)


def _check_apart(output_dir, data_dir):
    inner, outer = (
        os.path.join(os.path.realpath(one), "") for one in (output_dir, data_dir)
    )
    if inner.startswith(outer):
        raise ValueError(
            f"--output_dir={output_dir!r} is inside --data_dir={data_dir!r}, where it "
            "would be taken for images. Name a folder elsewhere."
        )


def _write_sealed(embedder, images, resize):
    images = images.without(find_bad_images(images))
    embeddings = evaluation.embed(embedder, images, resize)
    neighbors = None
    if _KIND.value != "exact":
        neighbors = search.calibrated_neighbors(
            _KIND.value,
            embeddings,
            _K.value,
            target=_AGREEMENT.value,
            seed=_SEED.value,
        )
    search.save_gallery(
        _OUTPUT_DIR.value,
        embeddings,
        images,
        embedder.input_shape[1],
        resize,
        neighbors,
    )
    return search.load_gallery(_OUTPUT_DIR.value)


def _update(embedder, images, resize):
    """Brings a gallery that grows to what the folder holds."""
    sides = embedder.output_shape[-1], embedder.input_shape[1], resize
    gallery = _open_or_create(*sides, f"--run={_RUN.value!r}")
    known = _known(gallery)
    # Without links on the way, so that an image has one name however it is reached.
    above = os.path.join(os.path.realpath(_DATA_DIR.value), "")
    ids = [above + os.path.relpath(path, _DATA_DIR.value) for path in images.paths]
    stats = [_size_and_time(path) for path in images.paths]
    is_new = np.array(
        [known.get(one) != stat for one, stat in zip(ids, stats, strict=True)]
    )
    _check_same_model(gallery, embedder, known)
    gone = [one for one in set(known) - set(ids) if one.startswith(above)]
    new = np.flatnonzero(is_new)
    bad = {}
    if new.size:
        bad = find_bad_images(_rows_of(images, new))
        new = np.array([row for row in new if images.paths[row] not in bad], int)
    of_path = dict(zip(images.paths, ids, strict=True))
    gone += [of_path[path] for path in bad if of_path[path] in known]
    gallery.delete(gone)
    bar = keras.utils.Progbar(len(new), unit_name="image")
    for start in range(0, len(new), _AT_ONCE):
        rows = new[start : start + _AT_ONCE]
        some = _rows_of(images, rows)
        gallery.put_embeddings(
            evaluation.embed(embedder, some, resize, verbose=0),
            [ids[row] for row in rows],
            [images.class_names[images.labels[row]] for row in rows],
            {
                "size": [stats[row][0] for row in rows],
                "modified": [stats[row][1] for row in rows],
            },
        )
        bar.update(start + len(rows))
    added = sum(ids[row] not in known for row in new)
    print(f"{added:,} new, {len(new) - added:,} changed, {len(gone):,} gone.")
    if len(new) or gone:
        gallery.optimize()
    _calibrate(gallery, len(new) > 0)
    return gallery


def _index_corpus():
    """Puts what the shards of a corpus hold into a gallery that grows."""
    if not flags.FLAGS["kind"].using_default_value and _KIND.value != _LANCE:
        raise ValueError(
            f"--from makes a gallery of --kind=lance; got --kind={_KIND.value}."
        )
    if _DATA_DIR.value is not None:
        raise ValueError("give --data_dir or --from, not both.")
    record = read_record(_FROM.value)
    if _RUN.value is not None:
        load_run_config(_RUN.value)
        file = pathlib.Path(_RUN.value) / "embedding.keras"
        if sha256_of_file(file) != record.sha256:
            raise ValueError(
                f"--from={_FROM.value!r} was embedded with another model than that of "
                f"--run={_RUN.value!r}."
            )
    files = whole_shards(_FROM.value, record)
    sides = record.dim, record.image_size, record.resize
    gallery = _open_or_create(*sides, f"--from={_FROM.value!r}")
    known = _known(gallery)
    if not holds_only(gallery, known, files):
        raise FileExistsError(
            f"--output_dir={_OUTPUT_DIR.value!r} holds other images, or embeddings of "
            f"another model, than --from={_FROM.value!r}. Name a new folder."
        )
    added = put_shards(gallery, known, files)
    print(f"{added:,} new.")
    if added:
        gallery.optimize()
    _calibrate(gallery, added > 0)
    return gallery


def _calibrate(gallery, is_new):
    if len(gallery) > _EXACT_UP_TO and (is_new or gallery.calibration is None):
        print("Calibrating the index:")
        gallery.calibrate(_K.value, _AGREEMENT.value, _SEED.value)


def _known(gallery):
    """{id: (bytes, ns)} of the images of a gallery."""
    known = gallery.read(["id", "size", "modified"])
    stats = zip(known["size"], known["modified"], strict=True)
    return dict(zip(known["id"], stats, strict=True))


def _open_or_create(dim, side, resize, source):
    folder = pathlib.Path(_OUTPUT_DIR.value)
    is_local = "://" not in _OUTPUT_DIR.value
    if is_local and folder.is_file():
        raise FileExistsError(f"--output_dir={_OUTPUT_DIR.value!r} is a file.")
    if is_local and (not folder.exists() or not any(folder.iterdir())):
        return search.LanceGallery.create(
            _OUTPUT_DIR.value,
            dim,
            side,
            resize,
            columns={"size": int, "modified": int},
        )
    gallery = search.load_gallery(_OUTPUT_DIR.value)
    if not isinstance(gallery, search.LanceGallery):
        raise FileExistsError(
            f"--output_dir={_OUTPUT_DIR.value!r} is a sealed gallery; name a new "
            "folder for one that grows."
        )
    missing = {"size", "modified"} - set(gallery.columns)
    if missing:
        raise ValueError(
            f"--output_dir={_OUTPUT_DIR.value!r} was made without the columns "
            f"{', '.join(sorted(missing))}, by which changed files are known. Name a "
            "new folder."
        )
    made_with = (gallery.dim, gallery.image_size, gallery.resize)
    if made_with != (dim, side, resize):
        raise ValueError(
            f"--output_dir={_OUTPUT_DIR.value!r} was made with a model of "
            f"{made_with[0]} dimensions and images of {made_with[1]} pixels, resized "
            f"to {made_with[2]}; {source} has {dim}, {side} and {resize}. "
            "Name a new folder."
        )
    return gallery


def _check_same_model(gallery, embedder, known):
    """Embeds some images again whose files are as they were when they were put in."""
    unchanged = (path for path, stat in known.items() if _size_and_time(path) == stat)
    paths = list(itertools.islice(unchanged, _TRIED))
    if not paths:
        return
    again = data.ImageDataset(paths, np.zeros(len(paths), int), ("",))
    bad = find_bad_images(again)
    if len(bad) == len(paths):
        return
    again = again.without(bad)
    embeddings = evaluation.embed(embedder, again, gallery.resize, verbose=0)
    kept = [gallery.embedding(path) for path in again.paths]
    if np.einsum("ij,ij->i", unit_rows(embeddings), kept).max() < _SAME:
        raise ValueError(
            f"--output_dir={_OUTPUT_DIR.value!r} holds embeddings of another model "
            f"than that of --run={_RUN.value!r}, or it was trained again since; they "
            "can't be compared. Name a new folder."
        )


def _rows_of(images, rows):
    """Some images, without their classes."""
    return data.ImageDataset(images.paths[rows], np.zeros(len(rows), int), ("",))


def _size_and_time(path):
    """(bytes, ns) of a file; zeros where there is none, which is a bad image."""
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


if __name__ == "__main__":
    program.run(main)

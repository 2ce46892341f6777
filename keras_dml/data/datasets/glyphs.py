"""Glyphs: a retrieval data set that needs no download, drawn from matplotlib's fonts.

Pillow, fontTools and matplotlib are imported where they are needed, so that importing
this file needs none of them.
"""

import hashlib
import os
import pathlib
import sys
import unicodedata

import numpy as np

from keras_dml._checks import checked_integer
from keras_dml._files import cached_folder
from keras_dml._files import default_cache_dir
from keras_dml._ops import import_extra
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.image_folder import image_folder

GENERATOR_VERSION = 1  # Increase it with any change that draws other pixels.
FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
)
SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")
IMAGES_PER_FACE = 2
IMAGE_SIZE = 32

# Two letters are one class if, scaled to fill a box, all ink of each is within REACH
# pixels, a sixteenth of the box, of the other's ink, in at least ALIKE_SHARE of the
# faces: enough for thin and thick strokes to match, too little for a tail or a bar to
# be overlooked.
BOX = 32
REACH = 2
ALIKE_SHARE = 0.4

EM = 96  # pixels, the font size before a letter is scaled
CANVAS = 2 * IMAGE_SIZE  # letters are distorted at twice the size, then averaged down
MESH = 4  # cells a side of the elastic distortion


def glyphs(
    cache_dir: str | os.PathLike | None = None, seed: int = 0
) -> tuple[ImageDataset, ImageDataset]:
    """Draws the glyphs data set, or finds it in the cache.

    Characters are classes: the unaccented Latin, Greek and Cyrillic letters that 16
    typefaces of matplotlib's own share (12 of DejaVu, 4 of STIX), 228 classes in
    all. Each has 32 gray images of 32 × 32 pixels, two from each face, every one
    scaled to a box and then rotated, sheared, stretched, moved, bent, made heavier
    or lighter, shaded and overlaid with noise. Half of the classes are for training,
    the others for testing; which, and every pixel, is a function of the seed. Raw
    pixels have a Recall@1 of about a third on the test part.

    Letters that the faces draw alike are one class: A of all three scripts, pairs
    such as o and O, which differ in size alone, and the few that italics confuse,
    such as п and n. They are found by comparing what the faces draw, so no list of
    them is kept. Accented letters are left out: at this size an accent is a few
    pixels.

    The images are PNG files, `train/<class>/<file>.png` and
    `test/<class>/<file>.png`, in a folder of the cache whose name has the seed and a
    digest of everything else that determines the pixels, such as the fonts. The folder
    appears when complete, so a process that is interrupted or runs beside another does
    no harm.

    Args:
        cache_dir: folder to keep the images in; None: `$KERAS_DML_CACHE` if set, else
            `~/.cache/keras_dml`.
        seed: 0 or more; each gives another data set.

    Returns:
        (train, test), with no class in common. Both are meant for self-retrieval. A
        class is named by its first character, such as `U+0041_latin_capital_letter_a`.

    Raises:
        ValueError: if seed is out of range.
        ImportError: if matplotlib, fontTools or Pillow is not installed.
        FileNotFoundError: if matplotlib lacks one of the fonts.

    Example:
        >>> train, test = glyphs(seed=0)  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (3648, 3648)
    """
    seed = checked_integer(seed, "seed", 0)
    cache = default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)
    folder = cache.expanduser() / f"glyphs-seed{seed}-{_digest()}"
    return image_folder(cached_folder(folder, lambda empty: _draw_dataset(empty, seed)))


def _import(module):
    return import_extra(module, "glyphs", "datasets")


def _font_file(face):
    matplotlib = _import("matplotlib")
    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    if not path.is_file():
        raise FileNotFoundError(
            f"matplotlib {matplotlib.__version__} lacks the font file {path}, which "
            "glyphs draws from. Reinstall it: pip install --force-reinstall matplotlib"
        )
    return path


def _digest():
    """A digest of everything but the seed that determines the pixels."""
    pillow, freetype = _import("PIL"), _import("PIL.features").version("freetype2")
    versions = (GENERATOR_VERSION, pillow.__version__, freetype, np.__version__)
    digest = hashlib.sha256(repr(versions).encode())
    for face in FACES:
        digest.update(hashlib.sha256(_font_file(face).read_bytes()).digest())
    return digest.hexdigest()[:12]


def _draw_dataset(folder, seed):
    print("Drawing the glyphs data set; this takes some seconds.", file=sys.stderr)
    train, test = _split(_letter_classes(), seed)
    _draw(folder / "train", train, seed)
    _draw(folder / "test", test, seed)


def _letter_classes():
    """The classes as strings of characters, each in order of code points."""
    letters = _letters()
    alike = sum(_alike(_load(face), letters) for face in FACES)
    # Pairs of letters that are alike are joined to classes: each letter leads to one
    # before it that it is alike to, and the first of a class to itself.
    first = list(range(len(letters)))

    def root(index):
        while first[index] != index:
            index = first[index]
        return index

    for pair in np.argwhere(np.triu(alike >= ALIKE_SHARE * len(FACES), 1)):
        low, high = sorted(map(root, pair))
        first[high] = low
    classes = {}
    for index, letter in enumerate(letters):
        classes.setdefault(root(index), []).append(letter)
    return ["".join(members) for members in classes.values()]


def _letters():
    """The unaccented letters of the scripts that every face has, by code point."""
    fonts = _import("fontTools.ttLib")
    shared = None
    for face in FACES:
        with fonts.TTFont(_font_file(face), lazy=True) as font:
            codes = set(font.getBestCmap())
        shared = codes if shared is None else shared & codes
    return [
        letter
        for letter in map(chr, sorted(shared))
        if letter.isalpha()
        and unicodedata.name(letter).startswith(SCRIPTS)
        and not unicodedata.decomposition(letter)
    ]


def _alike(font, letters):
    """(letters, letters) booleans, true where one face draws two letters alike."""
    pil_image, pil_filter = _import("PIL.Image"), _import("PIL.ImageFilter")
    inks, reaches = [], []
    for letter in letters:
        glyph = _render(font, letter)
        scale = BOX / max(glyph.size)
        glyph = glyph.resize(
            [max(1, round(scale * side)) for side in glyph.size],
            pil_image.Resampling.BOX,
        )
        boxed = pil_image.new("L", (BOX + 2 * REACH, BOX + 2 * REACH))
        left = (boxed.width - glyph.width) // 2
        boxed.paste(glyph, (left, (boxed.height - glyph.height) // 2))
        boxed = boxed.point(lambda gray: 255 * (gray > 127))
        inks.append(np.asarray(boxed).ravel() > 0)
        reach = boxed.filter(pil_filter.MaxFilter(2 * REACH + 1))
        reaches.append(np.asarray(reach).ravel() > 0)
    beyond = np.float32(inks) @ ~np.array(reaches).T
    return (beyond + beyond.T) == 0


def _load(face):
    pil_font = _import("PIL.ImageFont")
    # The basic layout is the one that every build of Pillow has.
    layout = pil_font.Layout.BASIC
    return pil_font.truetype(str(_font_file(face)), EM, layout_engine=layout)


def _render(font, letter):
    mask = font.getmask(letter, mode="L")
    glyph = _import("PIL.Image").frombytes("L", mask.size, bytes(mask))
    return glyph.crop(glyph.getbbox())


def _split(classes, seed):
    order = np.random.default_rng((seed,)).permutation(len(classes))
    half = len(classes) // 2
    return (
        [classes[index] for index in sorted(order[:half])],
        [classes[index] for index in sorted(order[half:])],
    )


def _draw(folder, classes, seed):
    """Writes the images of some classes, each the same whatever the others."""
    fonts = [_load(face) for face in FACES]
    for members in classes:
        class_folder = folder / _class_name(members)
        class_folder.mkdir(parents=True)
        for index, font in enumerate(fonts):
            for copy in range(IMAGES_PER_FACE):
                rng = np.random.default_rng((seed, ord(members[0]), index, copy))
                letter = members[rng.integers(len(members))]
                file = f"U+{ord(letter):04X}_{FACES[index]}_{copy}.png"
                _distort(_render(font, letter), rng).save(class_folder / file)


def _class_name(members):
    name = unicodedata.name(members[0]).lower().replace(" ", "_")
    return f"U+{ord(members[0]):04X}_{name}"


def _distort(glyph, rng):
    """One image of the data set, from a letter as its face draws it."""
    pil_image, pil_filter = _import("PIL.Image"), _import("PIL.ImageFilter")
    drawn = glyph.transform(
        (CANVAS, CANVAS),
        pil_image.Transform.MESH,
        _mesh(glyph.size, rng),
        pil_image.Resampling.BILINEAR,
    )
    blur = pil_filter.GaussianBlur(rng.uniform(0.5, 2.0))
    drawn = drawn.filter(blur).reduce(2)
    ink = np.asarray(drawn, np.float32) / 255
    # A low threshold on the blurred edge makes heavier strokes, a high one lighter.
    ink = np.clip((ink - rng.uniform(0.05, 0.35)) * 2, 0, 1)
    grid = np.linspace(-1, 1, IMAGE_SIZE)
    slope = rng.uniform(-0.1, 0.1, 2)
    paper = rng.uniform(0.1, 0.3) + slope[0] * grid[:, None] + slope[1] * grid
    contrast = rng.uniform(0.4, 0.7)
    noise = rng.normal(0, rng.uniform(0.02, 0.08), ink.shape)
    gray = np.clip(paper + contrast * ink + noise, 0, 1)
    return pil_image.fromarray(np.round(255 * gray).astype(np.uint8))


def _mesh(size, rng):
    """Cells of the canvas, and the quadrilateral of the glyph that each one shows."""
    angle = rng.uniform(-0.25, 0.25)
    shear = rng.uniform(-0.2, 0.2)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ np.array([[stretch, shear], [0, 1 / stretch]])
    affine *= rng.uniform(0.6, 0.75) * CANVAS / max(size)
    knots = np.linspace(0, CANVAS, MESH + 1)
    grid = np.stack(np.meshgrid(knots, knots), -1) - CANVAS / 2
    grid += rng.uniform(-0.06, 0.06, 2) * CANVAS
    grid += rng.normal(0, 0.02, grid.shape) * CANVAS
    source = grid @ np.linalg.inv(affine).T + np.array(size) / 2
    cells = []
    for row in range(MESH):
        for column in range(MESH):
            box = knots[[column, row, column + 1, row + 1]].astype(int)
            corners = ((row, column), (row + 1, column))
            corners += ((row + 1, column + 1), (row, column + 1))
            quad = np.concatenate([source[corner] for corner in corners])
            cells.append((tuple(box.tolist()), tuple(quad.tolist())))
    return cells

"""What README.md, BUILD.md and docs/ tell a reader to run, run."""

import importlib.util
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data.miniature_archives import spread
from tests.data.miniature_archives import write_cub200
from tests.experiments.programs import ROOT
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos
from tests.fork_server import run_file
from tests.fork_server import run_module

# Appended to training commands, which take minutes as they stand; the last flag wins.
_SHORT = {
    "cub200": [
        "--config.frozen_epochs=0",
        "--config.epochs=1",
        "--config.trunk=conv4",
        "--config.weights=",
        "--config.image_size=28",
        "--config.resize=32",
        "--config.dim=20",
        "--config.nmi_starts=0",
    ],
    "glyphs": ["--config.epochs=1"],
    "image_folder": [
        "--config.epochs=1",
        "--config.warmup_epochs=0",
        "--config.image_size=96",
        "--config.resize=110",
        "--config.classes=4",
        "--config.images_per_class=3",
        "--config.ks=(1,)",
    ],
}

_BACKEND = "KERAS_BACKEND="
"""What a command that names its backend begins with."""

DOCUMENTS = (
    *("README.md", "BUILD.md", "BENCHMARKS.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    "experiments/README.md",
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
)

# In this order, as later ones use what earlier ones have written.
_TO_FOLLOW = (
    *("README.md", "docs/training.md", "docs/losses.md", "docs/data_sets.md"),
    *("docs/measuring.md", "docs/search_and_serving.md", "docs/serving.md"),
    "docs/large_corpora.md",
)


def code_blocks(document, language):
    """The code blocks of a document in one language, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(document):
    """The shell commands of a document, continued lines joined, comments left out."""
    for block in code_blocks(document, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder as a reader of the documents has it, in which to run what they say."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("experiments", "README.md", "BUILD.md"):
        (folder / name).symlink_to(ROOT / name)
    write_photos(folder / "photos", side=100)
    write_cub200(folder / "CUB_200_2011", spread(5864, 100), spread(5924, 100))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "query.png")
    return folder


@pytest.fixture(scope="module")
def followed(reader):
    """Follows a document's commands, but for those that were run before."""
    programs = {}

    def follow(document):
        for words in commands(document):
            if words == ["make", "demo"]:
                words = _demo()
            if words[0] != "python" or tuple(words) in programs:
                continue
            arguments = words[3:]
            if words[2] == "experiments.train":
                config = next(word for word in words if word.startswith("--config="))
                arguments += _SHORT[pathlib.Path(config).stem]
            # Those of the README from a real start, as its reader does.
            run = _run_really if document == "README.md" else run_module
            finished = run(words[2], *arguments, cwd=reader)
            assert finished.returncode == 0, f"{words}\n{finished.stderr}"
            programs[tuple(words)] = words[2].removeprefix("experiments.")
        return list(programs.values())

    return follow


def _demo():
    """The command that `make demo` ends with."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    command = re.search(r"^demo:.*\n\t\.venv/bin/(.*)$", makefile, re.MULTILINE)
    return shlex.split(command[1])


def _run_really(module, *arguments, cwd, environment=None):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("document", _TO_FOLLOW)
def test_commands_and_code_run_in_order(document, reader, followed, monkeypatch):
    monkeypatch.chdir(reader)
    ran = followed(document)
    names = {}
    history = {}
    embeddings = []
    for block in code_blocks(document, "python"):
        if "localhost" in block:  # run by tests/serving/test_clients.py
            continue
        exec(compile(block, document, "exec"), names)
        embeddings.append(names.get("embedding"))
        if getattr(names.get("model"), "history", None):
            history.update(names["model"].history.history)
    if document == "README.md":
        assert ran == ["train", "train", "evaluate", "search", "export"]
        assert pathlib.Path("saved_models/glyphs/serving/2").is_dir()
        assert np.isfinite(history["val_recall@1"]).all()
    if document == "docs/search_and_serving.md":
        assert "index" in ran
    if document == "docs/serving.md":
        pinned = pathlib.Path("saved_models/glyphs/serving/models.config").read_text()
        assert "specific { versions: 1 }" in pinned
        # A SavedModel, LiteRT, ONNX; Pillow's pixels may differ by a gray level.
        embeddings = np.concatenate(embeddings)
        np.testing.assert_allclose(embeddings[1], embeddings[2], rtol=0, atol=1e-4)
        np.testing.assert_allclose(embeddings[0], embeddings[1], rtol=0, atol=0.05)


@pytest.mark.slow
@pytest.mark.long
def test_commands_on_another_backend_run_in_order(reader):
    programs = []
    for variable, *words in commands("docs/training.md"):
        if not variable.startswith(_BACKEND):
            continue
        is_training = words[2] == "experiments.train"
        arguments = [*words[3:], *(_SHORT["glyphs"] if is_training else ())]
        backend = variable.removeprefix(_BACKEND)
        finished = _run_really(
            words[2], *arguments, cwd=reader, environment={"KERAS_BACKEND": backend}
        )
        assert finished.returncode == 0, f"{words}\n{finished.stderr}"
        programs.append((backend, words[2]))
    assert programs == [
        ("jax", "experiments.train"),
        ("tensorflow", "experiments.export"),
    ]


@pytest.mark.slow
def test_classes_are_drawn_as_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in code_blocks("docs/many_classes.md", "python")[:-1]:
        exec(compile(block, "docs/many_classes.md", "exec"), names)
    assert np.isfinite(names["model"].history.history["loss"]).all()


@pytest.mark.slow
def test_several_machines_train_as_told(reader, tmp_path):
    (block,) = code_blocks("docs/several_machines.md", "python")
    file = tmp_path / "on_workers.py"
    file.write_text(block)
    finished = run_file(ROOT / "tests" / "workers.py", tmp_path, file, cwd=reader)
    assert finished.returncode == 0, finished.stderr
    assert (reader / "embedding.keras").is_file()
    assert list((reader / "checkpoints" / "photos").glob("step-*"))
    for worker in range(2):
        assert "val_recall@1" in (tmp_path / f"stdout-{worker}").read_text()


def test_moving_off_addons_gives_the_same_before_and_after():
    blocks = code_blocks("docs/moving_off_addons.md", "python")
    has_addons = importlib.util.find_spec("tensorflow_addons") is not None
    names = {}
    compared = 0
    if has_addons:
        names["tfa"] = importlib.import_module("tensorflow_addons")
    for block in blocks:
        if "tfa" in block and not has_addons:
            continue
        exec(compile(block, "docs/moving_off_addons.md", "exec"), names)
        if "after" not in names:
            continue
        after = np.asarray(names.pop("after"))
        assert np.isfinite(after).all(), block
        if has_addons:
            np.testing.assert_allclose(after, names.pop("before"), 1e-4, 1e-5, block)
            compared += 1
    assert len(blocks) == 2 + 2 * 10
    assert compared == (10 if has_addons else 0)


_OF_EACH_SHARD = """
variables = (model.layers[-1].class_weights, model.optimizer.velocities[-1])
for variable in variables:
    shards = variable.value.addressable_shards
    assert [shard.data.shape for shard in shards] == [(250, 64)] * 4
history = model.history.history
assert 0 < history["val_recall@1"][0] < 1, history
"""


@pytest.mark.slow
def test_sharded_classes_run_as_told(tmp_path):
    block = code_blocks("docs/many_classes.md", "python")[-1]
    finished = subprocess.run(
        [sys.executable, "-c", block + _OF_EACH_SHARD],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("(250, 64)") == 4


def test_command_that_moves_off_addons_trains_or_says_what_is_missing(tmp_path):
    (words,) = commands("docs/moving_off_addons.md")
    short = [*_SHORT["glyphs"], "--config.nmi_starts=0", f"--output_dir={tmp_path}/run"]
    finished = run_program(words[2].removeprefix("experiments."), *words[3:], *short)
    if importlib.util.find_spec("tensorflow_addons"):
        assert finished.returncode == 0, finished.stderr
        assert (tmp_path / "run" / "metrics.json").is_file()
    else:
        assert finished.returncode == 2
        assert 'pip install "keras_dml[addons]"' in finished.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_other_command_is_known(document):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    _, extras = _dependencies()
    for words in commands(document):
        if words[0] == "python":
            run_elsewhere = ("docs/moving_off_addons.md",)
            assert document in (*_TO_FOLLOW, *run_elsewhere), "not run by a test above"
        elif words[0] == "make":
            assert words[1] in targets
        elif words[0] == "pip":
            assert words[1] == "install"
            assert words[2].startswith((".", "keras_dml["))
            assert set(re.findall(r"\[(\w+)\]", words[2])) <= set(extras)
        elif words[0].startswith(_BACKEND):
            assert document == "docs/training.md", "not run by a test above"
        elif words[0] in ("echo", "curl"):
            assert document == "docs/serving.md", "not run by tests/serving"
        else:
            # TF Serving's own image can't be had where the tests run.
            assert words[:2] == ["docker", "run"]
            assert {"tensorflow/serving", "tensorflow/serving:latest-gpu"} & set(words)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    text = _prose(document)
    for link in re.findall(r"\]\(([^):]+)\)", text):
        file, _, heading = link.partition("#")
        file = (ROOT / document).parent / file if file else ROOT / document
        assert file.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", _prose(file), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", one.lower()) for one in headings]
            assert heading in [anchor.replace(" ", "-") for anchor in anchors], link


def _prose(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_every_dependency_is_explained():
    required, extras = _dependencies()
    text = (ROOT / "BUILD.md").read_text()
    section = text.split("## Why each dependency")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([a-z_-]+) \|", section, re.MULTILINE)[2:9] == required
    for extra, packages in extras.items():
        assert f"`{extra}`" in section, extra
        for package in packages:
            assert package in section.lower(), package


def _dependencies():
    """What setup.py asks for: the packages, and those of each extra."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **arguments: found.update(arguments))
        runpy.run_path(str(ROOT / "setup.py"))

    def names(requirements):
        return [re.match(r"[\w-]+", one)[0] for one in requirements]

    extras = found["extras_require"].items()
    return names(found["install_requires"]), {
        extra: names(packages) for extra, packages in extras
    }

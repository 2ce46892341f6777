import hashlib

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import convert_weights
from keras_dml.models import trunk
from tests.experiments.programs import run_program
from tests.models import torch_parity
from tests.models import torch_peers

torch = pytest.importorskip("torch", reason="it makes the checkpoints")


@pytest.fixture(scope="module")
def peer():
    return torch_parity.scramble(torch_peers.resnet50()).eval()


def run_convert(checkpoint, output):
    """Runs the program as a user does."""
    return run_program(
        "convert_weights",
        "--trunk=resnet50",
        f"--checkpoint={checkpoint}",
        f"--output={output}",
    )


def convert(checkpoint, output, name="resnet50"):
    """Runs its main function here, which takes a fraction of the time."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(
        trunk=name, checkpoint=str(checkpoint), output=str(output)
    ):
        convert_weights.main([])


def assert_features_are_the_peers(weights, peer):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = torch_parity.noise(2, 64, 64)
    inputs = torch_parity.normalized(pixels / 255, mean, std)
    expected = torch_parity.outputs_of(peer, inputs)["layer4"]
    model = trunk("resnet50", (64, 64, 3), weights=str(weights))
    found = model.predict(pixels, verbose=0)
    torch_parity.assert_equal_features(found, expected, 3e-5, "features")


@pytest.mark.slow
def test_converted_weights_give_the_published_network_s_features(peer, tmp_path):
    checkpoint = tmp_path / "resnet50.pth"
    torch.save(peer.state_dict(), checkpoint)
    output = tmp_path / "resnet50.weights.h5"
    finished = run_convert(checkpoint, output)
    assert finished.returncode == 0, finished.stderr
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert finished.stdout == f"SHA-256 {digest}  {checkpoint}\n{output}\n"
    assert set(tmp_path.iterdir()) == {checkpoint, output}
    assert_features_are_the_peers(output, peer)


@pytest.mark.slow
def test_safetensors_are_converted_too(peer, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="it writes the file")
    checkpoint = tmp_path / "resnet50.safetensors"
    numpy.save_file(torch_parity.tensors_of(peer), checkpoint)
    output = tmp_path / "resnet50.weights.h5"
    convert(checkpoint, output)
    assert_features_are_the_peers(output, peer)


def test_hostile_checkpoint_is_refused_in_one_line_and_nothing_runs(tmp_path):
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return eval, (f"open({str(marker)!r}, 'w').close()",)

    file = tmp_path / "resnet50.pth"
    torch.save({"conv1.weight": Hostile()}, file)
    finished = run_convert(file, tmp_path / "resnet50.weights.h5")
    assert finished.returncode == 2
    assert "__builtin__.eval" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


def test_checkpoint_of_another_network_is_refused_by_its_tensors(tmp_path):
    file = tmp_path / "other.pth"
    other = {"conv1.weight": torch.zeros(64, 3, 3, 3), "extra.weight": torch.ones(1)}
    torch.save(other, file)
    with pytest.raises(ValueError, match="does not hold the weights") as caught:
        convert(file, tmp_path / "resnet50.weights.h5")
    for part in (
        "missing: bn1.weight",
        "unknown: extra.weight",
        "of another shape: conv1.weight (64, 3, 3, 3), not (64, 3, 7, 7)",
    ):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_checkpoint_of_another_hash_than_its_name_says_is_refused(tmp_path):
    file = tmp_path / "resnet50-0676ba61.pth"
    torch.save({}, file)
    with pytest.raises(ValueError, match="not the file that its name says"):
        convert(file, tmp_path / "resnet50.weights.h5")


def test_trunk_without_a_published_checkpoint_is_refused(tmp_path):
    file = tmp_path / "conv4.pth"
    torch.save({}, file)
    with pytest.raises(ValueError, match="resnet50, googlenet"):
        convert(file, tmp_path / "conv4.weights.h5", "conv4")


def test_checkpoint_of_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .*; got 'keras\.weights\.h5'"):
        convert("keras.weights.h5", tmp_path / "resnet50.weights.h5")


def test_output_of_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--output must end in \.weights\.h5"):
        convert("nowhere.pth", tmp_path / "resnet50.h5")


def test_output_that_is_there_is_kept(tmp_path):
    output = tmp_path / "resnet50.weights.h5"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        convert("nowhere.pth", output)
    assert output.read_text() == "mine"


def test_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'"):
        convert("nowhere.pth", tmp_path / "nowhere" / "resnet50.weights.h5")


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file 'nowhere\.pth'"):
        convert("nowhere.pth", tmp_path / "resnet50.weights.h5")

import json
import sys
import zipfile

import keras
import pytest

from experiments._lib.load_run import load_embedder
from keras_dml._ops import IS_KERAS_2


@pytest.mark.skipif(IS_KERAS_2, reason="KerasHub runs on Keras 3")
def test_file_with_a_keras_hub_trunk_says_what_to_install(monkeypatch, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.save(tmp_path / "dense.keras")
    # The config of a backbone of KerasHub, as in a file from where that is installed.
    with zipfile.ZipFile(tmp_path / "dense.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {
        "module": "keras_hub.src.models.vit.vit_backbone",
        "class_name": "AbsentBackbone",
        "registered_name": "keras_hub>AbsentBackbone",
    }
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "hub.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match=r'pip install "keras_dml\[hub\]"'):
        load_embedder(tmp_path / "hub.keras")


def test_damaged_file_is_named(tmp_path):
    (tmp_path / "embedding.keras").write_bytes(b"PK and no more")
    with pytest.raises(ValueError, match=r"embedding\.keras' is not the .* or damaged"):
        load_embedder(tmp_path / "embedding.keras")


def test_file_of_another_keras_generation_says_which(tmp_path):
    other = "2.15.0" if keras.__version__[0] == "3" else "3.15.1"
    with zipfile.ZipFile(tmp_path / "embedding.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": other}))
    with pytest.raises(ValueError, match=rf"saved by Keras {other}, which .* serving/"):
        load_embedder(tmp_path / "embedding.keras")

import sys
import types

import keras
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import check_can_predict
from keras_dml._ops import check_versions
from keras_dml.models import trunk
from keras_dml.optimizers import SGD


@pytest.mark.parametrize(
    ("keras_version", "tensorflow_version"),
    [
        ("3.8.0", "2.18.0"),
        ("3.15.1", "2.21.0"),
        ("3.16.0.dev2026", "2.22.0-rc1"),
        ("4.0.0", "3.0.0"),
        ("3.8.0", None),
        ("2.15.0", "2.15.1"),
    ],
)
def test_versions_that_work_together_are_taken(keras_version, tensorflow_version):
    check_versions(keras_version, tensorflow_version)


@pytest.mark.parametrize(
    ("keras_version", "tensorflow_version"),
    [
        ("2.14.0", "2.14.0"),
        ("2.15.0", "2.16.1"),
        ("3.0.5", "2.16.1"),
        ("3.7.0", "2.18.0"),
        ("3.7.0", None),
        ("3.8.0", "2.15.1"),
        ("3.8.0", "2.17.1"),
    ],
)
def test_versions_that_do_not_are_refused_with_both_remedies(
    keras_version, tensorflow_version
):
    with pytest.raises(ImportError) as error:
        check_versions(keras_version, tensorflow_version)
    message = str(error.value)
    assert f"Keras {keras_version} with TensorFlow {tensorflow_version}." in message
    assert '"keras>=3.8"' in message
    assert "keras_dml[addons]" in message


def test_this_is_what_keras_says_it_is():
    assert (int(keras.__version__[0]) < 3) == IS_KERAS_2
    assert hasattr(keras, "ops") != IS_KERAS_2


@pytest.mark.skipif(not IS_KERAS_2, reason="KerasHub runs on Keras 3")
def test_kerashub_trunk_says_that_it_needs_keras_3():
    with pytest.raises(ImportError, match=r"KerasHub, which runs on Keras 3.*TRUNKS"):
        trunk("hub:resnet_50_imagenet")


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 takes any callable")
def test_learning_rate_that_keras_2_would_call_once_is_refused():
    with pytest.raises(ValueError, match="a number or a LearningRateSchedule"):
        SGD(lambda: 0.1)


@pytest.mark.parametrize(("processes", "refused"), [(1, False), (2, True)])
def test_jax_in_several_processes_can_not_predict(processes, refused, monkeypatch):
    check_can_predict()
    jax = types.SimpleNamespace(process_count=lambda: processes)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    if not refused:
        check_can_predict()
        return
    with pytest.raises(ValueError, match=r"JAX in several processes; .* one of 2"):
        check_can_predict()

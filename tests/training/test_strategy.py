import json
import pathlib
import re

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_dml.training import check_batch_divides
from keras_dml.training import mirrored_strategy
from tests import fork_server

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("two_logical_cpus.py")


@pytest.mark.parametrize("gpus", [0, 1])
def test_single_device_is_one_replica_without_a_data_set_around_the_data_set(
    gpus, monkeypatch
):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind] * gpus)
    strategy = mirrored_strategy()
    assert strategy.num_replicas_in_sync == 1
    batches = tf.data.Dataset.range(2)
    assert strategy.experimental_distribute_dataset(batches) is batches


def test_every_gpu_is_a_replica(monkeypatch):
    made = []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind] * 3)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", made.append)
    mirrored_strategy()
    assert made == [["GPU:0", "GPU:1", "GPU:2"]]


def test_cpu_is_split_in_a_new_process():
    finished = fork_server.run_file(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout
    result = json.loads(printed.splitlines()[-1])
    assert result["replicas"] == result["devices"] == result["replicas again"] == 2
    assert result["ids"] == [0, 1]
    assert "logical_cpus=3 came too late" in result["late"]


def test_split_that_comes_too_late_is_refused():
    tf.zeros(1)
    with pytest.raises(RuntimeError, match="logical_cpus=2 came too late"):
        mirrored_strategy(logical_cpus=2)


def test_negative_split_is_refused():
    with pytest.raises(
        ValueError, match="logical_cpus must be an integer of at least 0; got -1"
    ):
        mirrored_strategy(logical_cpus=-1)


@pytest.mark.parametrize("numbers", [(3, 25, 1), (3, 25, 3), (4, 5, 4), (2, 3, 6)])
def test_batch_that_divides_is_let_through(numbers):
    check_batch_divides(*numbers)


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        ((3, 25, 2), "use classes=2 or classes=4."),
        ((15, 5, 8), "use classes=8 or classes=16."),
        ((1, 5, 2), "use classes=2."),
        ((3, 6, 4), "use classes=2 or classes=4."),
    ],
)
def test_nearest_numbers_of_classes_are_suggested(numbers, advice):
    classes, images_per_class, replicas = numbers
    with pytest.raises(ValueError, match=re.escape(advice)) as error:
        check_batch_divides(*numbers)
    assert f" = {classes * images_per_class} images" in str(error.value)
    assert f"{replicas} replicas" in str(error.value)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 70))
def test_only_batches_that_do_not_divide_are_refused_with_numbers_that_do(
    classes, images_per_class, replicas
):
    if classes * images_per_class % replicas == 0:
        check_batch_divides(classes, images_per_class, replicas)
        return
    with pytest.raises(ValueError) as error:
        check_batch_divides(classes, images_per_class, replicas)
    advice = str(error.value).split("use ")[1]
    suggested = [int(number) for number in re.findall(r"classes=(\d+)", advice)]
    good = [
        n
        for n in range(1, classes + replicas + 1)
        if n * images_per_class % replicas == 0
    ]
    nearest = [n for n in good if n < classes][-1:] + [n for n in good if n > classes][
        :1
    ]
    assert suggested == nearest


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((4, 5, 0), "replicas must be an integer of at least 1; got 0"),
        ((0, 5, 2), "classes must be an integer of at least 1; got 0"),
        ((4, -5, 2), "images_per_class must be an integer of at least 1; got -5"),
    ],
)
def test_numbers_of_no_batch_are_refused(numbers, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_batch_divides(*numbers)

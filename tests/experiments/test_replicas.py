import contextlib

import keras
import pytest

from experiments._lib.replicas import start_replicas


@pytest.fixture
def backend(request, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: request.param)


@pytest.fixture
def devices(request, monkeypatch):
    """As many devices as JAX would have; gives what is distributed over them."""
    made = []
    names = [f"gpu:{number}" for number in range(request.param)]
    distribution = keras.distribution
    monkeypatch.setattr(distribution, "list_devices", lambda: names)
    monkeypatch.setattr(distribution, "DataParallel", lambda devices: devices)
    monkeypatch.setattr(distribution, "set_distribution", made.append)
    return made


def test_tensorflow_has_one_replica_on_one_device():
    replicas = start_replicas()
    assert replicas.count == 1
    with replicas.scope():
        pass


@pytest.mark.parametrize("backend", ["jax"], indirect=True)
@pytest.mark.parametrize("devices", [3], indirect=True)
def test_jax_shares_batches_among_all_devices(backend, devices):
    assert start_replicas().count == 3
    assert devices == [["gpu:0", "gpu:1", "gpu:2"]]


@pytest.mark.parametrize("backend", ["jax"], indirect=True)
@pytest.mark.parametrize("devices", [1], indirect=True)
def test_jax_distributes_nothing_on_one_device(backend, devices):
    assert start_replicas().count == 1
    assert devices == []


@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_pytorch_trains_on_one_device(backend):
    assert start_replicas().count == start_replicas(1).count == 1
    assert start_replicas().scope is contextlib.nullcontext
    with pytest.raises(ValueError, match=r"must be 0 on .* torch backend, .* got 2"):
        start_replicas(2)


@pytest.mark.parametrize("wrong", [-1, 2.0, True])
def test_wrong_number_is_refused(wrong):
    with pytest.raises(ValueError, match="--logical_cpus must be an integer of at lea"):
        start_replicas(wrong)


def test_logical_cpus_are_refused_where_there_are_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match=r"must be 0 where TF_CONFIG is set, .* got 2"):
        start_replicas(2)

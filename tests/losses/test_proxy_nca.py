import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import ProxyNCA
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer


def test_does_what_a_loss_must(tmp_path):
    check_loss(ProxyNCA, {"temperature": 0.5}, tmp_path)
    check_proxy_loss(ProxyNCA())


@settings(max_examples=15)
@given(st.integers(0, 10_000), CLASSES, st.floats(0.05, 2))
def test_equals_the_formula_on_the_peers_distances(seed, classes, temperature):
    torch = pytorch()

    distance = metric_learning("distances").LpDistance(power=2)

    def formula(x, p, labels):
        likeness = torch.exp(-distance(x, p) / temperature)
        is_own = torch.nn.functional.one_hot(labels, classes).bool()
        own = likeness[is_own]
        others = (likeness * ~is_own).sum(1)
        return -torch.log(own / others).mean()

    assert_equals_proxy_peer(ProxyNCA(temperature), formula, seed, classes)


def test_hand_worked_value():
    # Squared distances 1, 2 and 3 of unit vectors.
    cosines = np.array([[0.5, 0.0, -0.5]], np.float32)
    value = float(ProxyNCA()(np.array([0]), cosines))
    assert value == pytest.approx(1 + np.log(np.exp(-2) + np.exp(-3)), rel=1e-5)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_wrong_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match=r"^temperature must be a number above 0"):
        ProxyNCA(temperature)

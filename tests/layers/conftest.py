import keras
import pytest


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each floating dtype in turn; JAX must be told that there is a wider one."""
    if keras.backend.backend() != "jax":
        yield request.param
        return
    import jax

    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def tolerance(dtype):
    """The relative error that a computation in `dtype` may have."""
    return {"float32": 1e-4, "float64": 1e-6}[dtype]

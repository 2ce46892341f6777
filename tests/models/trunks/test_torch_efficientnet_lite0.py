import keras
import numpy as np
import pytest

from keras_dml.models import embedding_model
from keras_dml.models import trunk

torch = pytest.importorskip("torch", reason="PyTorch is the peer")
pytest.importorskip("efficientnet_lite_pytorch", reason="has the peer's network")


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_gives_the_embeddings_of_the_keras_model(training):
    from tests.models.torch_efficientnet_lite0 import TorchEfficientNetLite0

    rng = np.random.default_rng(0)
    embedder = embedding_model(trunk("efficientnet_lite0", (97, 64, 3)), 1280)
    embedder.set_weights(
        [w * rng.uniform(0.8, 1.2, w.shape) + 0.01 for w in embedder.get_weights()]
    )
    twin = TorchEfficientNetLite0().train(training)
    twin.load_keras(embedder)
    images = rng.integers(0, 256, (8, 97, 64, 3)).astype("float32")
    with torch.no_grad():
        found = twin(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    expected = keras.ops.convert_to_numpy(embedder(images, training=training))
    np.testing.assert_allclose(found, expected, atol=1e-4)

import keras
import numpy as np
import pytest

from keras_dml.models import embedding_model
from keras_dml.models._trunks.conv4 import conv4

torch = pytest.importorskip("torch", reason="PyTorch is the peer")


@pytest.mark.parametrize("training", [False, True])
def test_gives_the_embeddings_of_the_keras_model(training):
    from tests.models.torch_conv4 import TorchConv4

    rng = np.random.default_rng(0)
    embedder = embedding_model(conv4((35, 28, 3)), 64)
    embedder.set_weights(
        [w * rng.uniform(0.5, 2, w.shape) + 0.01 for w in embedder.get_weights()]
    )
    twin = TorchConv4().train(training)
    twin.load_keras(embedder)
    images = rng.integers(0, 256, (8, 35, 28, 3)).astype("float32")
    with torch.no_grad():
        found = twin(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    expected = keras.ops.convert_to_numpy(embedder(images, training=training))
    np.testing.assert_allclose(found, expected, atol=1e-4)

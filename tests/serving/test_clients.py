"""Clients of TF Serving, over gRPC and REST, against a server of its protocol.

Those of docs/serving.md among them.
"""

import base64
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml.models import embedding_model
from keras_dml.serving import export
from tests.fuzz.mutations import image_files

pytest.importorskip("tensorflow_serving")
import grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.serving.model_server import model_server

SIDE, DIM = 14, 11
FILES = image_files()
PHOTO = FILES["JPEG"]
DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(12, 3, strides=2)(keras.layers.Rescaling(1 / 255)(images))
    return embedding_model(keras.Model(images, x), DIM)


@pytest.fixture(scope="module")
def versions(embedder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    export(embedder, folder / "1")
    return folder


@pytest.fixture(scope="module")
def ports(versions):
    with model_server("birds", versions) as ports:
        yield ports


@pytest.fixture
def predict(ports):
    """Sends a request over gRPC; gives {name: array}."""
    with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def send(signature=None, model="birds", **inputs):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = signature or ""
            for name, tensor in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            response = service.Predict(request, timeout=60)
            assert response.model_spec.version.value == 1
            return {
                name: tf.make_ndarray(tensor)
                for name, tensor in response.outputs.items()
            }

        yield send


@pytest.fixture
def post(ports):
    """Sends a request over REST; gives the code and the content of the answer."""

    def send(request, model="birds"):
        address = f"http://127.0.0.1:{ports[1]}/v1/models/{model}:predict"
        try:
            with urllib.request.urlopen(
                address, json.dumps(request).encode()
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return send


def in_json(content):
    return {"b64": base64.b64encode(content).decode()}


def noise(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.float32)


def test_images_over_grpc_give_what_the_keras_model_gives(embedder, predict):
    images = noise(5)
    outputs = predict("images", images=images)
    assert set(outputs) == {"embedding", "code"}
    expected = embedder.predict(images, verbose=0)
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)
    np.testing.assert_array_equal(
        outputs["code"], np.packbits(outputs["embedding"] > 0, axis=1)
    )


def test_images_over_rest_give_what_the_keras_model_gives(embedder, post):
    images = noise(3)
    request = {"signature_name": "images", "instances": images.tolist()}
    code, answer = post(request)
    assert code == 200
    rows = answer["predictions"]
    expected = embedder.predict(images, verbose=0)
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-5)
    codes = np.array([row["code"] for row in rows])
    np.testing.assert_array_equal(codes, np.packbits(expected > 0, axis=1))


@pytest.mark.parametrize("kind", ["text", "animated WebP", "nothing"])
def test_one_bad_image_among_32_fails_alone_over_grpc(predict, kind):
    bad = {"text": b"text", "animated WebP": FILES["WEBP animated opaque"]}
    encoded = [PHOTO] * 32
    whole = predict(encoded=encoded)
    encoded[17] = bad.get(kind, b"")
    outputs = predict(encoded=encoded)
    assert whole["valid"].all()
    np.testing.assert_array_equal(np.flatnonzero(~outputs["valid"]), [17])
    for name in ("embedding", "code"):
        assert not outputs[name][17].any()
        np.testing.assert_array_equal(
            np.delete(outputs[name], 17, axis=0), np.delete(whole[name], 17, axis=0)
        )


def test_one_bad_image_among_32_fails_alone_over_rest(post):
    encoded = [{"encoded": in_json(PHOTO)} for _ in range(32)]
    encoded[0] = {"encoded": in_json(b"\x00\xff")}
    code, answer = post({"instances": encoded})
    assert code == 200
    first, *others = answer["predictions"]
    # Zeros, and no NaN, which JSON has no word for.
    assert first == {"embedding": [0] * DIM, "code": [0, 0], "valid": False}
    assert all(row["valid"] and any(row["embedding"]) for row in others)


def test_columns_over_rest_are_the_same(post):
    encoded = [in_json(PHOTO), in_json(FILES["PNG"])]
    _, rows = post({"instances": encoded})
    code, columns = post({"inputs": {"encoded": encoded}})
    assert code == 200
    assert columns["outputs"]["valid"] == [True, True]
    for name, column in columns["outputs"].items():
        assert column == [row[name] for row in rows["predictions"]]


WRONG = {
    "pixels of another side": ("images", {"images": np.zeros((1, 15, 14, 3), "f")}),
    "one image, not a batch": ("images", {"images": np.zeros((14, 14, 3), "f")}),
    "integers": ("images", {"images": np.zeros((1, 14, 14, 3), np.uint8)}),
    "pixels for bytes": (None, {"encoded": np.zeros((1, 14, 14, 3), "f")}),
    "bytes, not a batch": (None, {"encoded": PHOTO}),
    "another name": (None, {"image": [PHOTO]}),
    "no signature of that name": ("nothing", {"images": np.zeros((1, 14, 14, 3), "f")}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_request_is_refused_and_the_next_one_served(predict, kind):
    signature, inputs = WRONG[kind]
    with pytest.raises(grpc.RpcError) as refused:
        predict(signature, **inputs)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert predict(encoded=[PHOTO])["valid"].all()


def test_wrong_request_over_rest_is_refused(post):
    code, answer = post({"signature_name": "images", "instances": [[[0, 0, 0]]]})
    assert (code, set(answer)) == (400, {"error"})
    code, answer = post({"instances": [in_json(PHOTO)]}, model="fish")
    assert (code, set(answer)) == (404, {"error"})


def test_unknown_model_is_refused(predict):
    with pytest.raises(grpc.RpcError) as refused:
        predict(model="fish", encoded=[PHOTO])
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_clients_at_once_get_their_own_images(predict):
    images = [FILES[kind] for kind in ("JPEG", "PNG", "GIF", "JPEG gray")] * 4
    alone = [predict(encoded=[image])["embedding"] for image in images[:4]]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda image: predict(encoded=[image, b"bad"]), images)
        for row, outputs in enumerate(answers):
            np.testing.assert_array_equal(outputs["valid"], [True, False])
            np.testing.assert_allclose(
                outputs["embedding"][:1], alone[row % 4], rtol=0, atol=1e-6
            )


@pytest.fixture
def code_blocks(ports, versions, tmp_path, monkeypatch):
    """Gives the document's code, and a folder as its reader has it."""
    (tmp_path / "saved_models" / "birds").mkdir(parents=True)
    (tmp_path / "saved_models" / "birds" / "serving").symlink_to(versions)
    (tmp_path / "query.png").write_bytes(FILES["PNG"])
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text(encoding="utf-8").replace("glyphs", "birds")
    for documented, port in zip(("8500", "8501"), ports, strict=True):
        text = text.replace(f"localhost:{documented}", f"127.0.0.1:{port}")
    return lambda language: re.findall(
        rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )


def test_clients_of_the_document_get_the_embedding(code_blocks, predict):
    alone = predict(encoded=[FILES["PNG"]])
    blocks = [
        block
        for block in code_blocks("python")
        if "127.0.0.1" in block or "saved_model.load" in block
    ]
    assert len(blocks) == 3  # gRPC, REST, without a server
    for block in blocks:
        names = {}
        exec(compile(block, DOCUMENT, "exec"), names)
        embedding = np.reshape(names["embedding"], (1, DIM))
        np.testing.assert_allclose(embedding, alone["embedding"], rtol=0, atol=1e-6)
        if "code" in names:
            np.testing.assert_array_equal([*np.ravel(names["code"])], alone["code"][0])
        if "response" in names:
            assert names["response"].model_spec.version.value == 1
            assert names["outputs"]["valid"].tolist() == [True, False]


def test_curl_of_the_document_gets_the_embedding(code_blocks, predict):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    (command,) = (block for block in code_blocks("bash") if "curl" in block)
    finished = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=True, timeout=60
    )
    (row,) = json.loads(finished.stdout)["predictions"]
    assert row["valid"] is True
    (expected,) = predict(encoded=[FILES["PNG"]])["embedding"]
    np.testing.assert_allclose(row["embedding"], expected, atol=1e-6)

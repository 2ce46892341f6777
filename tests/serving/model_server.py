"""A small server of TF Serving's protocol on 127.0.0.1, over gRPC and REST.

It takes what the clients of TF Serving send and answers as TF Serving documents, from
the version that `models.config` beside the versions names, or else the highest:
https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import threading

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

_WRONG_REQUEST = (TypeError, ValueError, KeyError, tf.errors.InvalidArgumentError)


class _Models:
    """The versions in the folder of one model."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = pathlib.Path(folder)
        self._loaded = {}

    def version(self, name, version):
        """The number of the version that a request asks for; KeyError if unknown."""
        if name != self.name:
            raise KeyError(f"Servable not found for request: Latest({name})")
        served = self._served()
        if version and version not in served:
            raise KeyError(
                f"Servable not found for request: Specific({name}, {version})"
            )
        return version or max(served)

    def _served(self):
        versions = {
            int(folder.name)
            for folder in self.folder.iterdir()
            if folder.name.isdecimal()
        }
        file = self.folder / "models.config"
        if not file.is_file():
            return {max(versions)}
        message = model_server_config_pb2.ModelServerConfig()
        (config,) = text_format.Parse(
            file.read_text(), message
        ).model_config_list.config
        assert config.name == self.name
        policy = config.model_version_policy
        if policy.WhichOneof("policy_choice") == "specific":
            return set(policy.specific.versions) & versions
        return {max(versions)}

    def outputs(self, version, signature, inputs):
        """{name: array} of a signature, of a version that is loaded when first used."""
        if version not in self._loaded:
            self._loaded[version] = tf.saved_model.load(self.folder / str(version))
        function = self._loaded[version].signatures[signature or "serving_default"]
        outputs = function(**inputs)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec
        try:
            version = self._models.version(spec.name, spec.version.value)
        except KeyError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, error.args[0])
        try:
            inputs = {
                name: tf.io.parse_tensor(proto.SerializeToString(), proto.dtype)
                for name, proto in request.inputs.items()
            }
            outputs = self._models.outputs(version, spec.signature_name, inputs)
        except _WRONG_REQUEST as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        response.model_spec.version.value = version
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


def _without_base64(value):
    if isinstance(value, list):
        return [_without_base64(one) for one in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return value


def _handler(models):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            path = re.fullmatch(
                r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path
            )
            length = int(self.headers["Content-Length"])
            request = json.loads(self.rfile.read(length))
            try:
                version = models.version(path[1], int(path[2] or 0))
            except KeyError as error:
                return self._answer(404, {"error": error.args[0]})
            try:
                return self._answer(200, self._predicted(version, request))
            except _WRONG_REQUEST as error:
                return self._answer(400, {"error": str(error)})

        def _predicted(self, version, request):
            signature = request.get("signature_name")
            (given,) = {"instances", "inputs"} & set(request)
            value = request[given]
            name = "images" if signature == "images" else "encoded"
            if given == "instances":
                value = [
                    row[name] if isinstance(row, dict) and name in row else row
                    for row in value
                ]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            dtype = tf.float32 if name == "images" else tf.string
            tensor = tf.constant(_without_base64(value), dtype)
            outputs = models.outputs(version, signature, {name: tensor})
            lists = {name: array.tolist() for name, array in outputs.items()}
            if given == "inputs":
                return {"outputs": lists}
            rows = zip(*lists.values(), strict=True)
            return {"predictions": [dict(zip(lists, row, strict=True)) for row in rows]}

        def _answer(self, code, content):
            # JSON has no NaN, and strict clients refuse it.
            octets = json.dumps(content, allow_nan=False).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *message):
            pass

    return Handler


@contextlib.contextmanager
def model_server(name, folder):
    """Serves the versions in a folder; gives the ports of gRPC and REST."""
    models = _Models(name, folder)
    workers = concurrent.futures.ThreadPoolExecutor(4)
    over_grpc = grpc.server(workers)
    service = _Service(models)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        service, over_grpc
    )
    port = over_grpc.add_insecure_port("127.0.0.1:0")
    over_grpc.start()
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(models))
    thread = threading.Thread(target=rest.serve_forever)
    thread.start()
    try:
        yield port, rest.server_port
    finally:
        rest.shutdown()
        thread.join()
        rest.server_close()
        over_grpc.stop(None).wait()
        workers.shutdown()

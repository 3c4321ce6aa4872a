"""Other model servers, and the least that a server could be: their pinned environments and the programs that run them.

Each serves the digits classifier of scikit-learn, exported to ONNX unless its name says otherwise, with one worker and
one thread. ``PROGRAM`` finds the model's files in its working folder and where to listen in its first argument.
"""

from __future__ import annotations

from typing import NamedTuple

RUNTIME = ("onnxruntime==1.27.0", "numpy>=2")
V2 = "/v2/models/m/infer"


class Stack(NamedTuple):
    """What is installed, what is run, and the path that answers. ``listens`` is ``socket`` or ``port``.

    ``key`` is None where the body is that of the V2 protocol, else the body is an object with the rows at this key.
    """

    packages: tuple[str, ...]
    program: str
    listens: str = "port"
    path: str = V2
    key: str | None = None


SESSION = """
import sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
"""
BARE = (
    SESSION
    + """
import orjson
HEADERS = [("content-type", "application/json")]

async def app(scope, protocol):
    if scope.path != "/v2/models/m/infer":
        protocol.response_bytes(404, HEADERS, b"{}")
        return
    entry = orjson.loads(await protocol())["inputs"][0]
    found = session.run(["label"], {"X": np.array(entry["data"], dtype=np.float32).reshape(entry["shape"])})[0]
    output = {"name": "prediction", "datatype": "INT64", "shape": found.shape, "data": found}
    answer = {"model_name": "m", "model_version": "1", "outputs": [output]}
    protocol.response_bytes(200, HEADERS, orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))

if __name__ == "__main__":
    from pathlib import Path
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    Granian("program:app", uds=Path(sys.argv[1]), interface=Interfaces.RSGI, workers=1, websockets=False,
            http=HTTPModes.http1, log_enabled=False).serve()
"""
)
KSERVE = (
    SESSION
    + """
import asyncio, uvicorn
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.model_repository import ModelRepository
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

class Digits(Model):
    def __init__(self):
        super().__init__("m")
        self.ready = True

    def predict(self, request: InferRequest, headers=None, response_headers=None):
        entry = request.inputs[0]
        found = session.run(["label"], {"X": entry.as_numpy().astype(np.float32)})[0]
        output = InferOutput("prediction", list(found.shape), "INT64")
        output.set_data_from_numpy(found, binary_data=False)
        return InferResponse(request.id or "1", "m", [output])

async def serve():
    models = ModelRepository()
    models.update(Digits())
    data_plane = DataPlane(models)
    extension = ModelRepositoryExtension(data_plane)
    RESTServer("kserve.model_server:app", data_plane, extension, http_port=int(sys.argv[1])).create_application()
    # Its own entry point listens on every interface.
    await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")).serve()

asyncio.run(serve())
"""
)
LITSERVE = (
    SESSION
    + """
import litserve

class Digits(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        entry = request["inputs"][0]
        return np.array(entry["data"], dtype=np.float32).reshape(entry["shape"])

    def predict(self, rows):
        return session.run(["label"], {"X": rows})[0]

    def encode_response(self, found):
        return {"outputs": [{"name": "prediction", "datatype": "INT64", "shape": found.shape, "data": found.tolist()}]}

if __name__ == "__main__":
    server = litserve.LitServer(Digits(api_path="/v2/models/m/infer"), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
"""
)
MLSERVER = """
import asyncio, sys
import joblib, numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Digits(MLModel):
    async def load(self):
        self.digits = joblib.load("digits.joblib")
        return True

    async def predict(self, request):
        found = self.digits.predict(NumpyCodec.decode_input(request.inputs[0]))
        return InferenceResponse(model_name="m", outputs=[NumpyCodec.encode_output("prediction", found)])

async def serve():
    server = MLServer(Settings(parallel_workers=0, host="127.0.0.1", http_port=int(sys.argv[1]), metrics_endpoint=None,
                               grpc_port=int(sys.argv[1]) + 1000, debug=False))
    await server.start([ModelSettings(name="m", implementation=Digits)])

asyncio.run(serve())
"""
BENTOML = """
import sys
import bentoml, numpy as np, onnxruntime

@bentoml.service(workers=1)
class Digits:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, rows: list) -> list:
        return self.session.run(["label"], {"X": np.array(rows, dtype=np.float32)})[0].tolist()

if __name__ == "__main__":
    import os
    os.environ.update(BENTOML_DO_NOT_TRACK="1", BENTOML_HOME=os.path.abspath("home"))
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "program:Digits", "--host", "127.0.0.1",
                              "--port", sys.argv[1]])
"""
MLFLOW = """
import os, sys
import joblib, mlflow.sklearn
mlflow.sklearn.save_model(joblib.load("digits.joblib"), "saved", serialization_format="cloudpickle")
programs = os.path.dirname(sys.executable)  # it starts the uvicorn that it finds
os.environ.update(
    MLFLOW_MODELS_WORKERS="1", MLFLOW_DISABLE_ENV_CREATION="true", PATH=programs + os.pathsep + os.environ["PATH"]
)
os.execv(sys.executable, [sys.executable, "-m", "mlflow", "models", "serve", "-m", "saved", "-h", "127.0.0.1",
                          "-p", sys.argv[1], "-w", "1", "--env-manager", "local"])
"""
RAY = """
import os, sys
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_THROUGHPUT_OPTIMIZED="1")
import ray
from ray import serve

@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=100)
class Digits:
    def __init__(self, place):
        import numpy, onnxruntime
        self.numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(place, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request):
        entry = (await request.json())["inputs"][0]
        rows = self.numpy.array(entry["data"], dtype=self.numpy.float32).reshape(entry["shape"])
        found = self.session.run(["label"], {"X": rows})[0]
        output = {"name": "prediction", "datatype": "INT64", "shape": list(found.shape), "data": found.tolist()}
        return {"model_name": "m", "outputs": [output]}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Digits.bind(os.path.abspath("model.onnx")), route_prefix="/", blocking=True)
"""
STACKS = {
    "bare": Stack(("granian==2.8.7", "orjson==3.13.0", "uvloop==0.23.0", *RUNTIME), BARE, "socket"),
    "KServe SDK": Stack(("kserve==0.21.0", *RUNTIME), KSERVE),
    "LitServe": Stack(("litserve==0.2.19", *RUNTIME), LITSERVE),
    "BentoML": Stack(("bentoml==1.4.40", *RUNTIME), BENTOML, path="/predict", key="rows"),
    "Ray Serve": Stack(("ray[serve]==2.60.0", *RUNTIME), RAY),
    "MLServer, scikit-learn": Stack(("mlserver==1.7.1", "scikit-learn==1.9.1", "joblib"), MLSERVER),
    "MLflow, scikit-learn": Stack(
        ("mlflow==3.17.2", "scikit-learn==1.9.1", "joblib"), MLFLOW, path="/invocations", key="inputs"
    ),
}
OURS = (
    "httptools==0.9.0", "orjson==3.13.0", "uvloop==0.23.0", "blake3", "scikit-learn==1.9.1", "joblib",
    "skl2onnx", *RUNTIME
)  # fmt: skip

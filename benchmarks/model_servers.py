"""Other model servers, and the least that a server could be: their pinned environments and the programs that run them.

Each serves the digits classifier of scikit-learn, exported to ONNX unless its name says otherwise, with one worker and
one thread. ``PROGRAM`` finds the model's files in its working folder and where to listen in its first argument.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent
RUNTIME = ("onnxruntime==1.27.0", "numpy>=2")
V2 = "/v2/models/m/infer"


class Stack(NamedTuple):
    """What is installed, what is run, and the path that answers. ``listens`` is ``socket`` or ``port``."""

    packages: tuple[str, ...]
    program: str
    listens: str = "port"


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
    server = RESTServer(data_plane, ModelRepositoryExtension(data_plane), http_port=int(sys.argv[1]))
    app = server.create_application() if hasattr(server, "create_application") else server.app
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
STACKS = {
    "bare": Stack(("granian==2.8.7", "orjson==3.13.0", "uvloop==0.23.0", *RUNTIME), BARE, "socket"),
    "KServe SDK": Stack(("kserve==0.21.0", *RUNTIME), KSERVE),
    "LitServe": Stack(("litserve", *RUNTIME), LITSERVE),
    "MLServer, scikit-learn": Stack(("mlserver==1.7.1", "scikit-learn", "joblib"), MLSERVER),
}
OURS = ("granian==2.8.7", "orjson==3.13.0", "uvloop==0.23.0", "blake3", "scikit-learn", "joblib", "skl2onnx", *RUNTIME)


def environment_of(name: str, packages: tuple[str, ...], cache: Path) -> Path:
    """The interpreter of an environment of its own, made once and kept in ``cache``."""
    place = cache / ("model-server-" + "".join(letter for letter in name.lower() if letter.isalnum()))
    if not (place / "complete").exists():
        subprocess.run([BIN / "uv", "venv", "-q", "--clear", "--python", sys.executable, place], check=True)
        subprocess.run([BIN / "uv", "pip", "install", "-q", "--python", place / "bin/python", *packages], check=True)
        (place / "complete").touch()
    return place / "bin" / "python"

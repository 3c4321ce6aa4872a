"""Programs that ask a model server with public clients of the V2 protocol, each in a process of its own.

They get ``host:port`` of a server of the model ``flights``, and print a line for each answer: the probability.
"""

from __future__ import annotations

KSERVE_PACKAGES = ("kserve==0.21.0",)
"""300 MB with Kubernetes' client, and pins of its own: it gets an environment of its own, see ``make clients``."""

KSERVE = """
import asyncio, itertools, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

given = {"carrier": ("BYTES", np.array(["UA"], object)), "distance": ("FP64", np.array([1000.0])),
         "hour": ("INT64", np.array([20]))}

def request(is_binary, is_binary_out, names=tuple(given)):
    inputs = []
    for name in names:
        datatype, array = given[name]
        inputs.append(InferInput(name, [1], datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=is_binary)
    outputs = [RequestedOutput("probability", parameters={"binary_data": is_binary_out})]
    return InferRequest("flights", inputs, request_id="kserve", request_outputs=outputs)

async def main(url):
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, "flights")
        assert not await client.is_model_ready(url, "others")
        for is_binary, is_binary_out in itertools.product((False, True), (False, True)):
            asked = request(is_binary, is_binary_out)
            answer = await client.infer(url, asked, model_name="flights")
            assert answer.id == "kserve", answer
            print(json.dumps(answer.outputs[0].as_numpy().tolist()))
        try:
            await client.infer(url, request(False, False, ("carrier",)), model_name="flights")
        except Exception as refused:
            assert "missing inputs" in str(refused) and "400" in str(refused), refused
        else:
            raise AssertionError("a request that lacks inputs was answered")

asyncio.run(main("http://" + sys.argv[1]))
"""

OPEN_INFERENCE = """
import json, sys
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core import ApiError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput, TensorData

client = OpenInferenceClient(base_url="http://" + sys.argv[1])
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness("flights")
client.check_model_version_readiness("flights", "3")
assert "binary_tensor_data" in client.read_server_metadata().extensions
assert [one.name for one in client.read_model_metadata("flights").inputs] == ["carrier", "distance", "hour"]
assert client.read_model_version_metadata("flights", "3").versions == ["3"]

def request(*given):
    inputs = [RequestInput(name=name, datatype=kind, shape=[1], data=TensorData.parse_obj([value]))
              for name, kind, value in given]
    return InferenceRequest(id="open", inputs=inputs, outputs=[RequestOutput(name="probability")])

asked = request(("carrier", "BYTES", "UA"), ("distance", "FP64", 1000.0), ("hour", "INT64", 20))
for answer in (client.model_infer("flights", request=asked), client.model_version_infer("flights", "3", request=asked)):
    assert answer.id == "open"
    print(json.dumps(json.loads(answer.json())["outputs"][0]["data"]))
for model, asked, status in (("flights", request(("carrier", "BYTES", "UA")), 400), ("others", asked, 404)):
    try:
        client.model_infer(model, request=asked)
    except ApiError as refused:
        assert refused.status_code == status and refused.body["error"], refused
    else:
        raise AssertionError("what cannot be answered was answered")
"""

TRITON = """
import itertools, json, sys
import numpy as np
import tritonclient.http as http

client = http.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("flights")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
assert client.get_model_metadata("flights", "3")["inputs"][0]["name"] == "carrier"
assert client.get_model_repository_index()[0]["state"] == "READY"
given = {"carrier": np.array(["UA"], object), "distance": np.array([1000.0]), "hour": np.array([20])}
for inputs, outputs, packed in itertools.product((True, False), (True, False), (None, "gzip", "deflate")):
    asked = []
    for (name, array), datatype in zip(given.items(), ("BYTES", "FP64", "INT64")):
        asked.append(http.InferInput(name, [1], datatype))
        asked[-1].set_data_from_numpy(array, binary_data=inputs)
    wanted = [http.InferRequestedOutput("probability", binary_data=outputs)]
    answer = client.infer("flights", asked, outputs=wanted, request_id="triton", request_compression_algorithm=packed,
                          response_compression_algorithm=packed)
    assert answer.get_response()["id"] == "triton"
    print(json.dumps(answer.as_numpy("probability").tolist()))
try:
    client.infer("flights", asked[:1])
except http.InferenceServerException as refused:
    assert "missing inputs" in str(refused), refused
else:
    raise AssertionError("a request that lacks inputs was answered")
"""

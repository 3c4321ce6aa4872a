"""The V2 inference protocol as an OpenAPI description, strict about answers: what schemathesis tries a server by."""

from __future__ import annotations

from typing import Any

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string", "minLength": 1}},
    "required": ["error"],
    "additionalProperties": False,
}
INTEGERS = [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
DATATYPES = ["BOOL", "BYTES", "FP16", "BF16", "FP32", "FP64", *INTEGERS]


def describe(model: str, version: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The description of a server of one model. ``inputs`` are those of its metadata; others are described too."""
    tensor = object_of(
        {
            "name": {"anyOf": [{"enum": [entry["name"] for entry in inputs]}, {"type": "string"}]},
            "datatype": {"enum": DATATYPES},
            "shape": {"type": "array", "items": {"type": "integer"}, "maxItems": 4},
            "data": {"type": "array", "maxItems": 8},
            "parameters": {"type": "object"},
        },
        "name",
    )
    fitting = [
        object_of(
            {
                "name": {"const": entry["name"]},
                "datatype": {"const": entry["datatype"]},
                "shape": {"const": [1]},
                "data": {"type": "array", "items": values_of(entry["datatype"]), "minItems": 1, "maxItems": 1},
            },
            "name", "datatype", "shape", "data",
        )
        for entry in inputs
    ]  # fmt: skip
    rightly = {"type": "array", "prefixItems": fitting, "items": False, "minItems": len(inputs)}
    asked = object_of(
        {
            "id": {"type": "string"},
            "inputs": {"anyOf": [rightly, {"type": "array", "items": tensor, "maxItems": 4}]},
            "outputs": {"type": "array", "items": object_of({"name": {"type": "string"}}, "name"), "maxItems": 2},
            "parameters": {"type": "object"},
        },
        "inputs",
    )
    answered = object_of(
        {
            "model_name": {"const": model},
            "model_version": {"const": version},
            "id": {"type": "string"},
            "outputs": {"type": "array", "minItems": 0},
        },
        "model_name", "model_version", "id", "outputs",
    )  # fmt: skip
    told = object_of(
        {"name": {"const": model}, "versions": {"const": [version]}, "inputs": {"const": inputs}},
        "name", "versions", "platform", "inputs", "outputs",
    )  # fmt: skip
    named = [{"name": "model", "in": "path", "required": True, "schema": {"enum": [model, "other", "%2e%2e"]}}]
    versioned = [*named, {"name": "version", "in": "path", "required": True, "schema": {"enum": [version, "0", "x"]}}]
    paths: dict[str, Any] = {
        "/v2": {"get": operation(object_of({}, "name", "version", "extensions"))},
        "/v2/health/live": {"get": operation({"const": {"live": True}})},
        "/v2/health/ready": {"get": operation({"const": {"live": True, "ready": True}}, "503")},
        "/v2/repository/index": {"post": operation({"type": "array"}, "400", "413", body=object_of({}))},
    }
    for place, parameters in (("/v2/models/{model}", named), ("/v2/models/{model}/versions/{version}", versioned)):
        paths[place] = {"parameters": parameters, "get": operation(told, "404")}
        paths[f"{place}/ready"] = {
            "parameters": parameters,
            "get": operation({"const": {"name": model, "ready": True}}, "404", "503"),
        }
        paths[f"{place}/infer"] = {
            "parameters": parameters,
            "post": operation(answered, "400", "404", "413", "503", "504", body=asked),
        }
    return {"openapi": "3.1.0", "info": {"title": "V2 inference protocol", "version": "2"}, "paths": paths}


def object_of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these properties, and perhaps others."""
    return {"type": "object", "properties": properties, "required": list(required)}


def values_of(datatype: str) -> dict[str, Any]:
    """What a value of the datatype is in JSON."""
    if datatype == "BYTES":
        return {"type": "string"}
    return {"type": "boolean"} if datatype == "BOOL" else {"type": "integer" if "INT" in datatype else "number"}


def operation(answered: dict[str, Any], *refusals: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One operation: what 200 answers, which refusals there are beside a wrong method or header, and what is sent."""
    responses = {status: {"description": "refused", "content": in_json(ERROR)} for status in ("405", *refusals)}
    responses["200"] = {"description": "answered", "content": in_json(answered)}
    return {"responses": responses, **({"requestBody": {"content": in_json(body)}} if body is not None else {})}


def in_json(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as that of an answer or a request in JSON."""
    return {"application/json": {"schema": schema}}

"""Makes an ONNX graph of a model, and proves that it gives the same answers; see ``proving``.

Runs as ``python -m interlock.inference.export`` in an environment that has the model's library, onnx and onnxruntime.
"""

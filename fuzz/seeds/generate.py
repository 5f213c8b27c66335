#!/usr/bin/env python3
"""Small models as other tools write them, for the fuzz targets of the importers.

    pip install h5py==3.16.0 onnx==1.23.2 numpy && python generate.py
"""
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
WEIGHTS = {
    "conv2d": [("kernel", (2, 2, 1, 2)), ("bias", (2,))],
    "batch_normalization": [(k, (2,)) for k in ("gamma", "beta", "moving_mean", "moving_variance")],
    "flatten": [],
    "dense": [("kernel", (18, 3)), ("bias", (3,))],
}


def values(shape):
    count = int(np.prod(shape))
    return ((np.arange(count) % 7 + 1) / 8).astype(np.float32).reshape(shape)


def layers(version):
    shape = {"batch_input_shape": [None, 4, 4, 1]} if version == 2 else {}
    convolution = {"filters": 2, "kernel_size": [2, 2], "strides": [1, 1], "padding": "valid"}
    convolution |= {"activation": "relu", "use_bias": True, "data_format": "channels_last"}
    convolution |= {"dilation_rate": [1, 1], "groups": 1}
    configs = [
        ("Conv2D", {"name": "conv2d", **shape, **convolution}),
        ("BatchNormalization", {"name": "batch_normalization", "axis": [3] if version == 2 else 3, "epsilon": 1e-3}),
        ("Flatten", {"name": "flatten", "data_format": "channels_last"}),
        ("Dense", {"name": "dense", "units": 3, "activation": "softmax", "use_bias": True}),
    ]
    made = [{"class_name": kind, "config": config} for kind, config in configs]
    if version == 3:
        first = {"name": "input_layer", "batch_shape": [None, 4, 4, 1], "dtype": "float32"}
        made.insert(0, {"class_name": "InputLayer", "config": first})
    return {"class_name": "Sequential", "config": {"name": "tiny", "layers": made}}


def keras_h5(path):
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(layers(2))
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in WEIGHTS]
        for layer, weights in WEIGHTS.items():
            own = group.create_group(layer)
            own.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name, _ in weights]
            for name, shape in weights:
                own[f"{layer}/{name}:0"] = values(shape)


def keras_zip(path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for layer, weights in WEIGHTS.items():
            group = file.create_group(f"layers/{layer}/vars")
            for index, (_, shape) in enumerate(weights):
                group[str(index)] = values(shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.11.0"}))
        archive.writestr("config.json", json.dumps(layers(3)))
        archive.writestr("model.weights.h5", buffer.getvalue())


def onnx_file(path):
    weight = lambda name, shape: numpy_helper.from_array(values(shape), name)
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Flatten", ["p"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "w", "wb"], ["y"], transB=1),
        helper.make_node("Softmax", ["y"], ["s"], axis=-1),
    ]
    tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    initializers = [weight("k", (2, 1, 2, 2)), weight("kb", (2,)), weight("w", (3, 8)), weight("wb", (3,))]
    graph = helper.make_graph(nodes, "tiny", [tensor("x", [1, 1, 4, 4])], [tensor("s", [1, 3])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    for name, make in {"keras_h5": keras_h5, "keras_zip": keras_zip, "onnx": onnx_file}.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        make(folder / "tiny")

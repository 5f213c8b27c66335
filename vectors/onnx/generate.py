"""Makes the known answers of this folder and of ../keras: small random networks, an input, the answer of another program.

    pip install onnx onnxruntime keras "jax[cpu]" scipy safetensors
    python vectors/onnx/generate.py

ONNX answers come from onnxruntime, Keras answers from Keras on jax. Each network NAME.<ext> has NAME.json with
{"input": [...], "input_shape": [...], "output": [...], "made_by": "..."}; the input of a Keras network is channels last.
"""

import json
import os
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

os.environ["KERAS_BACKEND"] = "jax"
HERE = pathlib.Path(__file__).parent
KERAS = HERE.parent / "keras"
rng = np.random.default_rng(20)


def numbers(*shape):
    return (rng.normal(size=shape) * 0.5).astype(np.float32)


def write(folder, name, x, y, made_by):
    # Nine digits hold a 32-bit float exactly.
    flat = lambda a: [float(f"{v:.9g}") for v in np.asarray(a, dtype=np.float32).ravel()]
    text = {"input": flat(x), "input_shape": list(x.shape[1:]), "output": flat(y), "made_by": made_by}
    (folder / f"{name}.json").write_text(json.dumps(text) + "\n")


def onnx_case(name, shape, nodes, weights, opset=13, separate=False):
    nodes = [helper.make_node(kind, ins, outs, **attrs) for kind, ins, outs, attrs in nodes]
    init = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        init,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    x = rng.normal(size=(1, *shape)).astype(np.float32)
    data = model.SerializeToString()
    y = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    (HERE / f"{name}.onnx").write_bytes(data)
    if separate:  # weights in a file of their own, as exporters write large models
        weights_file = HERE / f"{name}.weights"
        weights_file.unlink(missing_ok=True)
        onnx.save(
            model,
            HERE / f"{name}.onnx",
            save_as_external_data=True,
            location=weights_file.name,
            size_threshold=0,
        )
    write(HERE, name, x, y, f"onnxruntime {onnxruntime.__version__}")


def i64(*values):
    return np.array(values, dtype=np.int64)


onnx_case(
    "conv_asymmetric",
    (4, 11, 9),
    [
        ("Conv", ["x", "w", "b"], ["c"], dict(pads=[2, 0, 1, 3], strides=[2, 1], dilations=[1, 2], group=2)),
        ("Relu", ["c"], ["r"], {}),
        ("Conv", ["r", "v"], ["y"], dict(auto_pad="SAME_LOWER", strides=[2, 3])),
    ],
    {"w": numbers(6, 2, 3, 2), "b": numbers(6), "v": numbers(3, 6, 2, 4)},
)
onnx_case(
    "pools",
    (2, 10, 11),
    [
        ("AveragePool", ["x"], ["a"], dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 2, 1])),
        ("AveragePool", ["x"], ["p"], dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 2, 1], count_include_pad=1)),
        ("MaxPool", ["x"], ["m"], dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
        ("AveragePool", ["x"], ["e"], dict(kernel_shape=[3, 4], strides=[3, 3], ceil_mode=1)),
        ("GlobalMaxPool", ["x"], ["g"], {}),
        ("ReduceMean", ["x"], ["q"], dict(axes=[2, 3], keepdims=0)),
        *[("Flatten", [k], [f"{k}f"], dict(axis=1)) for k in "apmeg"],
        ("Concat", ["af", "pf", "mf", "ef", "gf", "q"], ["y"], dict(axis=1)),
    ],
    {},
)
onnx_case(
    "polynomials",
    (3, 4, 4),
    [
        ("Mul", ["x", "x"], ["s"], {}),
        ("Mul", ["s", "a"], ["sa"], {}),
        ("Mul", ["x", "b"], ["xb"], {}),
        ("Add", ["sa", "xb"], ["q"], {}),
        ("Add", ["q", "c"], ["p"], {}),
        ("Pow", ["p", "two"], ["pp"], {}),
        ("Div", ["pp", "d"], ["dd"], {}),
        ("Sub", ["one", "dd"], ["y"], {}),
    ],
    {
        "a": numbers(1),
        "b": numbers(),
        "c": numbers(1, 1, 1, 1),
        "two": np.float32(2),
        "d": np.abs(numbers(3, 1, 1)) + 1,
        "one": np.float32(1),
    },
)
onnx_case(
    "views_opset9",
    (2, 3, 4),
    [
        ("Transpose", ["x"], ["t"], dict(perm=[0, 2, 3, 1])),
        ("Shape", ["t"], ["sh"], {}),
        ("Gather", ["sh", "zero"], ["n"], dict(axis=0)),
        ("Unsqueeze", ["n"], ["nu"], dict(axes=[0])),
        ("Concat", ["nu", "rest"], ["to"], dict(axis=0)),
        ("Reshape", ["t", "to"], ["f"], {}),
        ("MatMul", ["f", "w"], ["m"], {}),
        ("Add", ["m", "b"], ["d"], {}),
        ("Reshape", ["d", "square"], ["u"], {}),
        ("Softmax", ["u"], ["v"], dict(axis=1)),
        ("LogSoftmax", ["d"], ["l"], dict(axis=1)),
        ("Flatten", ["v"], ["vf"], dict(axis=1)),
        ("Add", ["vf", "l"], ["y"], {}),
    ],
    {"zero": np.array(0, dtype=np.int64), "rest": i64(-1), "w": numbers(24, 6), "b": numbers(6), "square": i64(0, 2, 3)},
    opset=9,
)
onnx_case(
    "residual",
    (3, 8, 8),
    [
        ("Pad", ["x", "pads"], ["xp"], {}),
        ("Conv", ["xp", "w1"], ["c1"], dict(strides=[2, 2])),
        ("BatchNormalization", ["c1", "g", "h", "mu", "va"], ["n1"], dict(epsilon=1e-3)),
        ("Clip", ["n1", "low"], ["r1"], {}),
        ("Conv", ["x", "w2", "b2"], ["c2"], dict(strides=[2, 2])),
        ("Add", ["r1", "c2"], ["a"], {}),
        ("Sigmoid", ["a"], ["s"], {}),
        ("Mul", ["a", "s"], ["sw"], {}),
        ("GlobalAveragePool", ["sw"], ["gp"], {}),
        ("Squeeze", ["gp", "hw"], ["sq"], {}),
        ("Gemm", ["sq", "w3", "b3"], ["z"], dict(alpha=0.5, beta=2.0)),
        ("Tanh", ["z"], ["y"], {}),
    ],
    {
        "pads": i64(0, 0, 1, 1, 0, 0, 1, 0),
        "w1": numbers(4, 3, 3, 3),
        "g": numbers(4),
        "h": numbers(4),
        "mu": numbers(4),
        "va": np.abs(numbers(4)) + 0.5,
        "low": np.float32(0),
        "w2": numbers(4, 3, 1, 1),
        "b2": numbers(4),
        "hw": i64(2, 3),
        "w3": numbers(4, 5),
        "b3": numbers(5),
    },
)

import keras  # noqa: E402
from keras import layers as L  # noqa: E402


def keras_case(model):
    def value(w):
        positive = "variance" in w.path
        return rng.uniform(0.5, 2, size=w.shape) if positive else rng.normal(size=w.shape) * 0.5

    model.set_weights([value(w).astype(np.float32) for w in model.weights])
    x = rng.normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    y = np.asarray(model.predict(x, verbose=0))
    for ending in ("keras", "h5"):
        model.save(KERAS / f"{model.name}.{ending}")
    write(KERAS, model.name, x, y, f"Keras {keras.__version__} on jax")


keras_case(
    keras.Sequential(
        [
            keras.Input((9, 8, 2)),
            L.Rescaling(0.5, offset=0.1),
            L.ZeroPadding2D(((1, 0), (0, 2))),
            L.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="tanh"),
            L.BatchNormalization(),
            L.ReLU(),
            L.DepthwiseConv2D((2, 2), depth_multiplier=2),
            L.Activation("sigmoid"),
            L.Conv2D(4, (2, 2), groups=2, dilation_rate=2, padding="same"),
            L.AveragePooling2D((2, 2), padding="same"),
            L.Dropout(0.5),
            L.Flatten(),
            L.Dense(7, activation="relu"),
            L.Dense(5),
            L.Softmax(),
        ],
        name="sequential",
    )
)
i = keras.Input((8, 8, 3))
x = L.Conv2D(4, 3, padding="same", name="first")(i)
y = L.Conv2D(4, 1, name="shortcut", use_bias=False)(i)
z = L.Activation("relu")(L.Add()([x, y]))
c = L.Concatenate()([L.MaxPooling2D()(x), L.MaxPooling2D()(z)])
c = L.BatchNormalization(center=False)(c)
t = L.Concatenate(axis=1)([c, c])
g = L.GlobalAveragePooling2D()(L.Dense(6)(t))
r = L.Flatten()(L.Conv2D(2, 2)(L.Reshape((4, -1, 2))(c)))
o = L.Dense(3, activation="softmax")(L.Concatenate()([g, r, L.Multiply()([g, g])]))
keras_case(keras.Model(i, o, name="functional"))
onnx_case(
    "parts",
    (6, 7, 8),
    [
        ("Slice", ["x", "from", "to", "hw"], ["s"], {}),
        ("Split", ["s"], ["s1", "s2"], dict(axis=1, num_outputs=2)),
        ("Gather", ["x", "picked"], ["g"], dict(axis=1)),
        ("Slice", ["g", "from0", "far", "w"], ["gs"], {}),
        ("ReduceMean", ["s1", "one"], ["r"], dict(keepdims=1)),
        ("ReduceSum", ["gs", "h"], ["t"], dict(keepdims=0)),
        ("GlobalAveragePool", ["s2"], ["p"], {}),
        ("Sigmoid", ["p"], ["ps"], {}),
        ("Mul", ["s2", "ps"], ["m"], {}),
        ("Pad", ["m", "pads", "", "wh"], ["mp"], {}),
        *[("Flatten", [k], [f"{k}f"], dict(axis=1)) for k in ("r", "t", "mp")],
        ("Concat", ["rf", "tf", "mpf"], ["y"], dict(axis=1)),
    ],
    {
        "from": i64(1, -6),
        "to": i64(6, 10**6),
        "hw": i64(2, 3),
        "picked": i64(5, 0, 2),
        "from0": i64(1),
        "far": i64(100),
        "w": i64(3),
        "h": i64(2),
        "one": i64(1),
        "pads": i64(1, 0, 0, 2),
        "wh": i64(3, 2),
    },
    opset=18,
)
onnx_case(
    "bends",
    (3, 5, 5),
    [
        ("Clip", ["x", "low", "high"], ["a"], {}),
        ("LeakyRelu", ["x"], ["b"], dict(alpha=0.1)),
        ("PRelu", ["x", "slopes"], ["c"], {}),
        ("HardSwish", ["x"], ["d"], {}),
        ("HardSigmoid", ["x"], ["e"], dict(alpha=0.3)),
        ("Abs", ["x"], ["f"], {}),
        ("Max", ["a", "b"], ["g"], {}),
        ("Min", ["c", "third"], ["h"], {}),
        ("Mean", ["d", "e", "f"], ["i"], {}),
        ("Concat", list("abcdefghi"), ["y"], dict(axis=1)),
    ],
    {"low": np.float32(-0.4), "high": np.float32(0.6), "slopes": numbers(3, 1, 1), "third": np.float32(0.3)},
    opset=14,
)
onnx_case(
    "lines",
    (3, 12),
    [
        ("Conv", ["x", "w", "b"], ["c"], dict(pads=[1, 0], strides=[2])),
        ("MaxPool", ["c"], ["m"], dict(kernel_shape=[2])),
        ("Transpose", ["m"], ["t"], dict(perm=[0, 2, 1])),
        ("MatMul", ["t", "v"], ["d"], {}),
        ("Add", ["d", "e"], ["f"], {}),
        ("MatMul", ["u", "f"], ["g"], {}),
        ("Sqrt", ["spread"], ["root"], {}),
        ("Mul", ["root", "rows"], ["factor"], {}),
        ("Div", ["g", "factor"], ["y"], {}),
    ],
    {
        "w": numbers(4, 3, 3),
        "b": numbers(4),
        "v": numbers(4, 6),
        "e": numbers(6),
        "u": numbers(2, 5),
        "spread": np.abs(numbers(1, 6)) + 1,
        "rows": np.abs(numbers(2, 1)) + 1,
    },
)
onnx_case(
    "weights_apart",
    (2, 5, 5),
    [("Conv", ["x", "w", "b"], ["c"], {}), ("Flatten", ["c"], ["f"], {}), ("Gemm", ["f", "v"], ["y"], {})],
    {"w": numbers(3, 2, 3, 3), "b": numbers(3), "v": numbers(27, 4)},
    separate=True,
)

training_only = keras.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.1)], name="augmentation")
inner = keras.Sequential([keras.Input((9, 7, 2)), L.SeparableConv2D(4, 3), L.PReLU(shared_axes=[1, 2])], name="inner")
shared = L.Conv2D(4, 3, padding="same")
i = keras.Input((10, 8, 2))
x = L.Normalization(mean=[0.1, -0.2], variance=[0.5, 2.0])(training_only(i))
x = inner(L.Cropping2D(((1, 0), (0, 1)))(x))
x = L.LeakyReLU(negative_slope=0.2)(shared(x))
x = L.ReLU(max_value=0.75)(shared(L.Permute((2, 1, 3))(x)))
x = 1.0 - x * x * 0.5 + L.Activation("silu")(x)
x = L.Average()([x, L.Maximum()([keras.ops.square(x), x / 3.0]), x])
t = L.Softmax()(L.Dense(3)(L.BatchNormalization()(L.Reshape((-1, 4))(x))))
t = L.GlobalMaxPooling1D()(L.Conv1D(4, 3, strides=2, padding="same", activation="tanh")(t))
o = L.Dense(3)(L.Concatenate()([t, L.GlobalAveragePooling2D()(x)]))
keras_case(keras.Model(i, o, name="nested"))

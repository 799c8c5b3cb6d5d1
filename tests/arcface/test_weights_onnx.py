"""Recognition models as .onnx: layouts, sizes, normalisation, and what a hostile file may not do."""

import builtins
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from arcface.alignment import ARCFACE_TEMPLATE
from arcface.embed import embed
from arcface.onnx_file import read_contents
from arcface.preprocess import preprocess
from arcface.weights import load_recognition
from dnnlib.errors import UserError

WEIGHT = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float32)


def network(
    shape: tuple[str | int, ...] = ("n", 3, 16, 16), before: tuple[Any, ...] = (), kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A convolution with stride 4 and the mean of its map: 8 features. `before`: nodes from x to y."""
    nodes = [*before]
    source = "y" if before else "x"
    if shape[-1] == 3:
        nodes.append(helper.make_node("Transpose", [source], ["chw"], perm=[0, 3, 1, 2]))
        source = "chw"
    nodes += [
        helper.make_node("Conv", [source, "w"], ["map"], strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["feature"]),
    ]
    weights = [helper.make_tensor("w", kind, WEIGHT.shape, WEIGHT.ravel())]
    weights += [helper.make_tensor(name, kind, [], [value]) for name, value in (("mean0", 127.5), ("scale", 1 / 127.5))]
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("feature", kind, [shape[0], 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def expected(images: torch.Tensor) -> np.ndarray:
    x = preprocess(images, 16)
    return torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHT), stride=4).mean(dim=(2, 3)).numpy()


NORMALISED = (
    helper.make_node("Sub", ["x", "mean0"], ["centred"]),
    helper.make_node("Mul", ["centred", "scale"], ["y"]),
)


@pytest.mark.parametrize(
    "model",
    [
        network(),
        network((1, 3, 16, 16)),
        network(("n", 16, 16, 3)),
        network(before=NORMALISED),
        network(kind=TensorProto.FLOAT16),
    ],
    ids=["nchw", "one by one", "nhwc", "normalises itself", "half"],
)
def test_features_are_those_of_the_graph(model: onnx.ModelProto, images: torch.Tensor, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", model)
    loaded = load_recognition(path)
    assert (loaded.arch, loaded.input_size, loaded.color_order, loaded.num_features) == ("onnx", 16, "RGB", 8)
    assert loaded.alignment is ARCFACE_TEMPLATE
    assert loaded.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    loose = model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    found = embed(loaded, images, batch_size=2)
    np.testing.assert_allclose(found, expected(images), atol=2e-2 if loose else 1e-5)
    assert found.dtype == np.float32 and embed(loaded, []).shape == (0, 8)


def test_an_open_side_is_112(tmp_path: Path) -> None:
    assert load_recognition(saved(tmp_path / "m.onnx", network(("n", 3, "h", "w")))).input_size == 112


def external(where: str, inside: bool) -> onnx.ModelProto:
    """The weights in another file; or a constant within the graph, where they are easily overlooked."""
    model = network()
    tensor = model.graph.initializer[0]
    if inside:
        node = helper.make_node("Constant", [], ["constant"], value=helper.make_tensor("c", 1, [1], [0.0]))
        model.graph.node.insert(0, node)
        tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    return model


def loop() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Loop", [], [])], "body", [], [])
    model = network()
    model.graph.node.append(helper.make_node("If", ["x"], [], then_branch=body, else_branch=body))
    return model


def greedy() -> onnx.ModelProto:
    """Adds the sum of 16 GiB of zeros to the pictures."""
    nodes = (
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    )
    model = network(before=nodes)
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [1 << 32]))
    return model


WHOLE = network().SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE[:-200], "truncated or not an ONNX model"),
        (b"", "is empty; a recognition model"),
        (b"\x93NUMPY not a model at all", "truncated or not an ONNX model"),
        (external("/etc/passwd", inside=False), "lie in other files"),
        (external("model.bin", inside=True), "lie in other files"),
        (loop(), "needs no Loop"),
        (greedy(), "onnxruntime cannot run it"),
        (network(("n", 1, 16, 16)), r"takes \['n', 1, 16, 16\]"),
        (network((4, 3, 16, 16)), r"N open or 1"),
        (network(("n", 3, 16, 20)), "needed"),
        (network(("n", 3, 100000, 100000)), "needed"),
        (network(kind=TensorProto.DOUBLE), "one batch of pictures|cannot run it"),
    ],
)
def test_what_is_refused_is_one_line(content: bytes | onnx.ModelProto, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(UserError, match=words) as caught:
        load_recognition(path)
    assert str(caught.value).startswith(f"--rec-model: {path}") and "\n" not in str(caught.value)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    path = saved(tmp_path / "m.onnx", network())
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_recognition(path)


def test_an_architecture_for_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--rec-arch: r50 is not needed"):
        load_recognition(saved(tmp_path / "m.onnx", network()), arch="r50")


def test_contents_are_as_the_onnx_package_reads_them() -> None:
    model = network(before=NORMALISED)
    found = read_contents(model.SerializeToString())
    assert found.operators == [node.op_type for node in model.graph.node] and not found.external

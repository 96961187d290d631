"""An ONNX graph in operators that onnx2torch knows, which was written for those up to version 17.

torch exports version 20. Most that came between only take more options, so a graph may call itself
older; where that is not so, those that segmentation networks have are written as they were.
Whatever comes of it is compared with the original like any other conversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segbench.networks.libraries import import_library

_KNOWN = 17
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")  # their axes were attributes


def forms(path: Path) -> Iterator[Any]:
    """The graph as it is; then, of newer operators, as an older one would be written."""
    onnx = import_library("onnx", "onnx")
    model = onnx.load(str(path))
    yield model
    newer = [own for own in model.opset_import if own.domain == "" and own.version > _KNOWN]
    for own in newer:
        own.version = _KNOWN
        _reword(onnx, model.graph)
        yield model


def _reword(onnx: Any, graph: Any) -> None:
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    nodes = [own for node in graph.node for own in _reworded(onnx, node, constants)]
    del graph.node[:]
    graph.node.extend(nodes)


def _reworded(onnx: Any, node: Any, constants: dict[str, Any]) -> list[Any]:
    """The nodes that an older graph has for one."""
    make, kept = onnx.helper, [one for one in node.attribute if one.name != "noop_with_empty_axes"]
    if node.op_type in _REDUCTIONS and len(node.input) == 2 and node.input[1] in constants:
        older = make.make_node(node.op_type, node.input[:1], node.output, name=node.name)
        axes = constants[node.input[1]].reshape(-1).tolist()
        older.attribute.extend([*kept, make.make_attribute("axes", axes)])
        return [older]
    if (
        node.op_type == "Reshape"
    ):  # torch says of sizes of 0, of which there are none, what they are
        del node.attribute[:]
        return [node]
    if node.op_type == "Gelu" and all(one.s == b"none" for one in kept):
        return _gelu(onnx, node.input[0], node.output[0])
    return [node]


def _gelu(onnx: Any, x: str, y: str) -> list[Any]:
    """x / 2 (1 + erf(x / sqrt 2)), by Hendrycks and Gimpel, arXiv 1606.08415."""
    make, names = onnx.helper, [f"{y} {part}" for part in range(6)]
    root, one, half, scaled, erf, more = names
    numbers = [
        make.make_node(
            "Constant", [], [name],
            value=onnx.numpy_helper.from_array(np.array(value, np.float32)),
        )
        for name, value in ((root, math.sqrt(2)), (one, 1), (half, 0.5))
    ]  # fmt: skip
    halved = f"{y} halved"
    return [
        *numbers,
        make.make_node("Div", [x, root], [scaled]),
        make.make_node("Erf", [scaled], [erf]),
        make.make_node("Add", [erf, one], [more]),
        make.make_node("Mul", [x, half], [halved]),
        make.make_node("Mul", [halved, more], [y]),
    ]

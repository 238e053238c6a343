"""Small ONNX models: models.py FOLDER writes one file per function below."""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, initializers=(), inputs=None, outputs=None, opset=13):
    inputs = inputs or [("x", FLOAT, ["batch", 4])]
    outputs = outputs or [("y", FLOAT, [])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(*n[:3], name=n[3] if len(n) > 3 else "", **(n[4] if len(n) > 4 else {}))
         for n in nodes],
        "main",
        [info(*i) for i in inputs],
        [info(*o) for o in outputs],
        [numpy_helper.from_array(v, name) for name, v in initializers],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def f(*shape):
    return np.ones(shape, np.float32)


def i(*values):
    return np.array(values, np.int64)


RELU = [("Relu", ["x"], ["y"], "relu")]


def unsupported():
    return model([
        ("Relu", ["x"], ["a"], "fine"),
        ("Det", ["a"], ["b"], "first"),
        ("Cosh", ["b"], ["c"], "second"),
        ("Cosh", ["c"], ["y"]),
        ("Sinh", ["a"], ["unused"], "dead"),
    ])


def subgraph():
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "b", [],
                             [helper.make_tensor_value_info("z", FLOAT, [])])
    return model([("If", ["c"], ["y"], "branch", dict(then_branch=body, else_branch=body))],
                 [("c", np.array(True))])


def cycle():
    return model([("Add", ["x", "b"], ["a"], "first"), ("Relu", ["a"], ["b"], "second"),
                  ("Relu", ["b"], ["y"], "third")])


def twice():
    return model([("Relu", ["x"], ["y"], "first"), ("Exp", ["x"], ["y"], "second")])


def missing():
    return model([("Add", ["x", "w"], ["y"], "sum")])


def two_initializers():
    return model([("Add", ["x", "w"], ["y"])], [("w", f(4)), ("w", f(4))])


def constant_batch():
    return model(RELU, inputs=[("x", FLOAT, [2, 4])])


def unbound():
    return model(RELU, inputs=[("x", FLOAT, ["batch", "T"])])


def unnamed():
    return model(RELU, inputs=[("x", FLOAT, ["batch", None])])


def two_batches():
    return model([("Add", ["x", "z"], ["y"])],
                 inputs=[("x", FLOAT, ["batch", 4]), ("z", FLOAT, ["other", 4])])


def opset():
    return model(RELU, opset=10)


def ir():
    made = model(RELU)
    made.ir_version = 11
    return made


def huge():
    made = model([("Add", ["x", "w"], ["y"])], [("w", f(4))])
    made.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    return made


def bytes_wrong():
    made = model([("Add", ["x", "w"], ["y"])], [("w", f(4))])
    made.graph.initializer[0].dims[:] = [5]
    return made


def escape():
    made = model([("Add", ["x", "w"], ["y"])], [("w", f(4))])
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return made


def half():
    return model([("Cast", ["w"], ["v"], "", dict(to=1)), ("Add", ["x", "v"], ["y"])],
                 [("w", np.ones(4, np.float16))])


def fixed_reshape():
    return model([("Reshape", ["x", "s"], ["y"], "flat")], [("s", i(2, 2, 2))])


def dropout():
    return model([("Dropout", ["x", "r", "t"], ["y"], "drop")],
                 [("r", np.float32(1.5).reshape(())), ("t", np.array(True))])


def index():
    return model([("Gather", ["w", "p"], ["a"], "lookup"), ("Add", ["x", "a"], ["y"])],
                 [("w", f(3, 4)), ("p", i(3).reshape(()))])


def computed_shape():
    return model([("Reshape", ["x", "s"], ["y"], "shaped")],
                 inputs=[("x", FLOAT, ["batch", 4]), ("s", INT64, [2])])


def integer_power():
    return model([("Pow", ["x", "x"], ["y"], "power")], inputs=[("x", INT64, ["batch", 4])],
                 outputs=[("y", INT64, [])])


def output_type():
    return model([("Constant", [], ["y"], "", dict(value=numpy_helper.from_array(
        np.array([255], np.uint8)))), ("Relu", ["x"], ["z"])],
        outputs=[("z", FLOAT, []), ("y", TensorProto.UINT8, [1])])


def external(made, location, offset=None):
    """Moves the first initializer's values to a file that is not written."""
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    if offset is not None:
        tensor.external_data.add(key="offset", value=str(offset))
    return made


def masked(size):
    return model([("Equal", ["m", "zero"], ["c"]), ("Where", ["c", "x", "x"], ["y"])],
                 [("m", f(*size)), ("zero", np.zeros((), np.float32))])


def absent_mask():
    return external(masked([4]), "nowhere.data")


def short_mask():
    """64 KiB, which the system would map, in a file of 10 bytes."""
    return external(masked([128, 128]), "short.data")


def far_mask():
    return external(masked([4]), "short.data", 2**64 - 8)


def short_shape():
    return external(model([("Reshape", ["x", "s"], ["y"], "shaped")],
                          [("s", i(-1, 2, 2))]), "empty.data")


def range_least():
    return model([("Range", ["start", "limit", "delta"], ["r"], "counted"),
                  ("ReduceSum", ["r"], ["s"]), ("Cast", ["s"], ["t"], "", dict(to=1)),
                  ("Add", ["x", "t"], ["y"])],
                 [("start", i(0).reshape(())), ("limit", i(-2**63).reshape(())),
                  ("delta", i(-1).reshape(()))])


def range_standing():
    return model([("Range", ["start", "limit", "delta"], ["r"], "counted"),
                  ("ReduceSum", ["r"], ["s"]), ("Add", ["x", "s"], ["y"])],
                 [(n, np.float32(v).reshape(()))
                  for n, v in [("start", 1), ("limit", 0), ("delta", 0)]])


def concat_of_nothing():
    """No elements, but dimensions of which the product is beyond 64 bits."""
    return model([("ConstantOfShape", ["s"], ["a"]), ("ConstantOfShape", ["s"], ["b"]),
                  ("Concat", ["a", "b"], ["c"], "joined", dict(axis=1)),
                  ("Shape", ["c"], ["d"]), ("Cast", ["d"], ["e"], "", dict(to=1)),
                  ("ReduceMax", ["e"], ["g"]), ("Add", ["x", "g"], ["y"])],
                 [("s", i(0, 2**40, 2**40))])


def trilu_least():
    return model([("Trilu", ["m", "k"], ["t"], "triangle"), ("Add", ["x", "t"], ["y"])],
                 [("m", f(4, 4)), ("k", i(-2**63).reshape(()))], opset=14)


def trilu_least_of_values():
    return model([("Trilu", ["x", "k"], ["y"], "triangle")],
                 [("k", i(-2**63).reshape(()))], opset=14,
                 inputs=[("x", FLOAT, ["batch", 4, 4])])


def slice_far_steps():
    return model([("Slice", ["x", "start", "end", "axes", "steps"], ["y"], "strided")],
                 [("start", i(0)), ("end", i(2**63 - 1)), ("axes", i(1)),
                  ("steps", i(2**63 - 1))])


def slice_backwards_batch():
    return model([("Slice", ["x", "start", "end", "axes", "steps"], ["y"], "turned")],
                 [("start", i(-1)), ("end", i(-2**63)), ("axes", i(0)), ("steps", i(-1))])


def pad_batch():
    return model([("Pad", ["x", "pads"], ["y"], "padded")], [("pads", i(1, 0, 0, 0))])


def pad_everything_away():
    return model([("Pad", ["x", "pads"], ["y"], "padded")], [("pads", i(0, -2, 0, -2))])


def einsum_letters():
    return model([("Einsum", ["x", "w"], ["y"], "product", dict(equation="bi,ii->bi"))],
                 [("w", f(4, 4))])


def einsum_sizes():
    return model([("Einsum", ["x", "w"], ["y"], "product", dict(equation="bi,ij->bj"))],
                 [("w", f(5, 3))])


def one_hot_depth():
    return model([("Cast", ["x"], ["n"], "", dict(to=7)),
                  ("OneHot", ["n", "depth", "values"], ["y"], "hot")],
                 [("depth", i(-3).reshape(())), ("values", f(2))])


def group_norm():
    return model([("GroupNormalization", ["x", "g", "g"], ["y"], "norm", dict(num_groups=3))],
                 [("g", f(3))], inputs=[("x", FLOAT, ["batch", 4, 5])], opset=18)


def unused():
    return model(RELU, [("pooler", f(2))])


def parameters():
    """One tied parameter, one behind Identity, one frozen by name, a mask and
    a table of integers that are none, and an initializer nobody reads."""
    return model(
        [
            ("Identity", ["norm"], ["norm.copy"]),
            ("Mul", ["x", "tied"], ["a"]),
            ("Mul", ["a", "tied"], ["b"]),
            ("Mul", ["b", "norm"], ["c"]),
            ("Mul", ["c", "norm.copy"], ["d"]),
            ("Constant", [], ["zero"], "", dict(value_float=0.0)),
            ("Equal", ["mask", "zero"], ["hidden"]),
            ("Where", ["hidden", "zero", "d"], ["e"]),
            ("Add", ["e", "bias"], ["y"]),
        ],
        [("tied", f(4)), ("norm", f(4)), ("mask", np.tril(f(4, 4))[2]),
         ("bias", f(4)), ("unread", f(9))],
    )


def shapes11():
    """Forms of opset 11: axes and sizes as attributes, a flattening softmax."""
    return model(
        [
            ("Unsqueeze", ["x"], ["a"], "", dict(axes=[1])),          # [B,1,2,6]
            ("Squeeze", ["a"], ["b"], "", dict(axes=[1])),            # [B,2,6]
            ("Split", ["b"], ["c", "d"], "", dict(axis=2, split=[2, 4])),
            ("Softmax", ["d"], ["e"]),                                # over 2*4
            ("ReduceSum", ["e"], ["g"], "", dict(axes=[-1], keepdims=0)),
            ("ReduceMax", ["c"], ["h"], "", dict(axes=[2], keepdims=0)),
            ("Add", ["g", "h"], ["y"]),
        ],
        inputs=[("x", FLOAT, ["batch", 2, 6])],
        opset=11,
    )


def shapes18():
    """Forms of opset 18, newer than Debian's checker: axes as operands."""
    return model(
        [
            ("Split", ["x"], ["a", "b"], "", dict(axis=1, num_outputs=2)),
            ("ReduceMean", ["a", "axes"], ["c"], "", dict(keepdims=1)),
            ("Sub", ["b", "c"], ["y"]),
        ],
        [("axes", i(-1))],
        inputs=[("x", FLOAT, ["batch", 5])],
        opset=18,
    )


def arithmetic():
    """A shape that is computed: [B * 2, 6] -> [-1, 6] -> [B, 12]; positions
    for each sample; a mask by comparison of ranges."""
    return model(
        [
            ("Shape", ["x"], ["shape"]),
            ("Gather", ["shape", "zero"], ["batch"]),
            ("Mul", ["batch", "two"], ["rows"]),
            ("Unsqueeze", ["rows", "axis0"], ["rows1"]),
            ("Concat", ["rows1", "six"], ["target"], "", dict(axis=0)),
            ("Reshape", ["x", "target"], ["folded"]),
            ("Relu", ["folded"], ["active"]),
            ("Unsqueeze", ["batch", "axis0"], ["batch1"]),
            ("Concat", ["batch1", "minus"], ["back"], "", dict(axis=0)),
            ("Reshape", ["active", "back"], ["wide"]),
            ("Range", ["zero", "twelve", "one"], ["range"]),
            ("Unsqueeze", ["range", "axis0"], ["row"]),
            ("Concat", ["batch1", "dozen"], ["expanded"], "", dict(axis=0)),
            ("Expand", ["row", "expanded"], ["positions"]),
            ("Gather", ["table", "positions"], ["embedded"]),          # [B,12]
            ("Add", ["wide", "embedded"], ["sum"]),
            ("Unsqueeze", ["range", "axis1"], ["column"]),
            ("Greater", ["row", "column"], ["hidden"]),                # [12,12]
            ("Unsqueeze", ["sum", "axis1"], ["sum1"]),                 # [B,1,12]
            ("Where", ["hidden", "low", "sum1"], ["masked"]),          # [B,12,12]
            ("ReduceSum", ["masked", "axis2"], ["y"], "", dict(keepdims=0)),
        ],
        [
            ("zero", np.int64(0).reshape(())), ("one", np.int64(1).reshape(())),
            ("two", np.int64(2).reshape(())), ("twelve", np.int64(12).reshape(())),
            ("six", i(6)), ("minus", i(-1)), ("dozen", i(12)), ("axis0", i(0)),
            ("axis1", i(1)), ("axis2", i(2)), ("table", f(12)),
            ("low", np.float32(-1).reshape(())),
        ],
        inputs=[("x", FLOAT, ["batch", 2, 6])],
    )


def main():
    folder = sys.argv[1]
    makers = [v for k, v in list(globals().items())
              if callable(v) and getattr(v, "__module__", "") == "__main__"
              and v.__code__.co_argcount == 0 and not v.__code__.co_flags & 4
              and k != "main"]
    for make in makers:
        data = make().SerializeToString()
        with open(f"{folder}/{make.__name__}.onnx", "wb") as out:
            out.write(data)
    good = model(RELU).SerializeToString()
    files = {"text": b"hello, I am no model\n", "empty": b"", "truncated": good[:-9],
             "no_graph": good[:2], "zip": b"PK\x03\x04" + bytes(100),
             "nested": b""}
    for name, size in [("short", 10), ("empty", 0)]:
        with open(f"{folder}/{name}.data", "wb") as out:
            out.write(bytes(size))
    # A graph attribute in a node in a graph attribute, 200 deep.
    inner = b""
    def field(number, payload):
        tag, size, out = number << 3 | 2, len(payload), b""
        for value in (tag, size):
            while value >= 0x80:
                out += bytes([value & 0x7f | 0x80])
                value >>= 7
            out += bytes([value])
        return out + payload
    for _ in range(200):
        inner = field(1, field(5, field(6, inner)))
    files["nested"] = b"\x08\x08" + field(7, inner)
    for name, data in files.items():
        with open(f"{folder}/{name}.onnx", "wb") as out:
            out.write(data)


main()

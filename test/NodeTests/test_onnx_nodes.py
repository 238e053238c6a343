#!/usr/bin/python3
"""The ONNX project's node tests through the importer, the passes, and the cpu device and
PyTorch's ops in turn.

Every model of Debian's libonnx-testdata whose operators the importer's table
accepts is run in two ways:

  device   the operands are inputs; those that ONNX allows to be computed but
           the importer wants to know (shapes, axes, ranges) are constants
  folded   all operands are constants, so that the importer or
           graph-fold-constants computes what it can

A case that does not run must say why in words that REASONS knows.

    TOMBOLO_BIN=build/dev/bin python3 -W ignore test_onnx_nodes.py
"""

import collections
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import onnx
from onnx import helper, numpy_helper

DATA = "/usr/share/libonnx-testdata/data/node"
BIN = os.environ.get("TOMBOLO_BIN", "build/dev/bin")
MARKER = "// -----"
# What runs segments: the cpu device, and PyTorch.
EXECUTORS = {
    "cpu": [os.path.join(BIN, "segment-run"), "cpu"],
    "torch": [sys.executable, "-W", "ignore", os.path.join(
        os.path.dirname(__file__), "../../runtime/torch/test/segment_run.py")],
}

# Operands that must be known at import. Where it is all of them, nothing of the
# operator runs on a device.
KNOWN_OPERANDS = {
    "ConstantOfShape": {0}, "Range": {0, 1, 2},
    "Dropout": {1, 2}, "Expand": {1}, "Reshape": {1}, "Slice": {1, 2, 3, 4}, "Split": {1},
    "Squeeze": {1}, "Unsqueeze": {1}, "Trilu": {1},
    "Tile": {1}, "Pad": {1, 2, 3}, "OneHot": {1},
    "ReduceSum": {1}, "ReduceMean": {1}, "ReduceMax": {1}, "ReduceMin": {1}, "ReduceProd": {1},
}

# Why a case of an accepted operator does not run: what the tool says, and what
# it means.
REASONS = [
    (r"unsupported element type number|is declared with the element type number"
     r"|a cast to type \w+ is not there yet",
     "types other than float, bfloat16, int32, int64, bool"),
    (r"is no tensor of known rank", "sequences and optional values"),
    (r"producing 'input' \(Constant\)", "constants of strings"),
    (r"is supported only where its result follows from the shapes of the inputs",
     "folded at import only, some operators for integers only"),
    (r"dimension \d of input '\w+' is 0|computes with a tensor of shape \[.*\b0\b.*\]"
     r"|takes nothing of axis", "tensors without elements"),
    (r"has opset \d+, expected 11", "an operator that opset 11 changed"),
    (r"draws a mask of its own", "random numbers"),
    (r"ceil_mode with a window that goes beyond the input is not there yet",
     "windows of pools that end outside the padding"),
    (r"the indices of maxima are not there yet", "pools that return indices"),
    (r"value 'z' is not computed", "the mask of a dropout as a result"),
    (r"expected operands of 32-bit floats, got", "windows over other types than f32"),
    (r"expects a float operand, got 'tensor<.*i(32|64)>'", "arithmetic of integers on a device"),
    (r"expected indices in \[0, \d+\), got -\d", "negative indices that are not constant"),
    (r"repeats the letter '\w' in one operand", "diagonals"),
    (r"the cpu device does not compute bf16 yet", "bfloat16 on the cpu device"),
]

# How many cases pass at least.
FLOOR = {"device": 513, "folded": 540}


def tool(*command, text=None):
    return subprocess.run([os.path.join(BIN, command[0]), *command[1:]], input=text,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read(values, prefix):
    """Names and tensors; sequences and optional values are left out."""
    pairs = []
    for i, value in enumerate(values):
        if not value.type.HasField("tensor_type"):
            continue
        with open(f"{prefix}_{i}.pb", "rb") as file:
            tensor = onnx.TensorProto.FromString(file.read())
        if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
            tensor.data_type = onnx.TensorProto.BFLOAT16  # stored as if of uint16
        pairs.append((value.name, tensor))
    return pairs


def bytes_of(tensor):
    """The elements as a device holds them."""
    if tensor.data_type == onnx.TensorProto.BFLOAT16 and not tensor.raw_data:
        return np.array(tensor.int32_data, np.uint16).tobytes()
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()


def lift(model):
    """Operators that are the same in opset 11 as in the model's come under that."""
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < 11:
            if all(onnx.defs.get_schema(node.op_type, 11).since_version <= opset.version
                   for node in model.graph.node):
                opset.version = 11


ELEMENTS = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.BFLOAT16: "bf16",
            onnx.TensorProto.INT64: "i64", onnx.TensorProto.INT32: "i32",
            onnx.TensorProto.BOOL: "i1"}


def type_of(tensor):
    return f"tensor<{''.join(f'{d}x' for d in tensor.dims)}{ELEMENTS.get(tensor.data_type, '?')}>"


class Case:
    def __init__(self, name, model, data, way):
        self.name, self.model, self.way = name, model, way
        self.ops = sorted({node.op_type for node in model.graph.node})
        self.inputs = read(model.graph.input, data + "/input")
        self.outputs = [tensor for _, tensor in read(model.graph.output, data + "/output")]
        self.fault = ""  # the first error
        self.ir = self.segment = ""

    def constants(self):
        """The inputs that become constants."""
        if self.way == "folded":
            return {name for name, _ in self.inputs}
        return {operand for node in self.model.graph.node for i, operand in enumerate(node.input)
                if i in KNOWN_OPERANDS.get(node.op_type, ())}

    def write(self, folder):
        self.folder = os.path.join(folder, f"{self.name}.{self.way}")
        os.mkdir(self.folder)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph, known, nodes = model.graph, self.constants(), []
        for name, tensor in self.inputs:
            if name in known:
                nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            else:
                with open(os.path.join(self.folder, name + ".in"), "wb") as file:
                    file.write(bytes_of(tensor))
        nodes += graph.node
        kept = [value for value in graph.input if value.name not in known]
        for field, values in ((graph.node, nodes), (graph.input, kept)):
            copies = [type(value).FromString(value.SerializeToString()) for value in values]
            del field[:]
            field.extend(copies)
        onnx.save(model, os.path.join(self.folder, "model.onnx"))

    def translate(self):
        done = tool("tombolo-translate", "--import-onnx", "--no-batch",
                    os.path.join(self.folder, "model.onnx"))
        if done.returncode:
            self.fault = done.stderr.strip() or f"import: exit status {done.returncode}"
            return
        self.ir = done.stdout
        # Before opset 12 the operator does not say that it trains; the cases are
        # of evaluation, and run without the masks.
        if "graph.dropout" in self.ir and self.model.opset_import[0].version >= 12:
            self.fault = "dropout draws a mask of its own"
            return
        signature = re.search(r"func\.func @main\(.*", self.ir).group(0)
        types = re.findall(r'(tensor<[^>]*>) \{graph\.output = ', signature)
        if types != [type_of(output) for output in self.outputs]:
            self.fault = f"types differ: {types}, expected {[type_of(o) for o in self.outputs]}"

    def compare(self):
        for i, want in enumerate(self.outputs):
            path = os.path.join(self.folder, f"r{i}.out")
            if not os.path.exists(path):
                self.fault = f"result {i} is missing"
                return
            with open(path, "rb") as file:
                got = file.read()
            os.remove(path)  # the next executor's is another
            if len(got) != len(bytes_of(want)):
                self.fault = f"result {i} has {len(got)} bytes, expected {len(bytes_of(want))}"
                return
            if want.data_type != onnx.TensorProto.FLOAT:
                if got != bytes_of(want):
                    self.fault = f"result {i} differs"
                continue
            expected = numpy_helper.to_array(want)
            got = np.frombuffer(got, np.float32).reshape(expected.shape)
            # The tolerances of ONNX's own runner.
            if not np.allclose(got, expected, rtol=1e-3, atol=1e-7, equal_nan=True):
                error = np.nanmax(np.abs(got.astype(np.float64) - expected))
                self.fault = f"result {i} differs by {error}"


def convert(cases, command):
    """A text per case through one process; an empty one where it failed."""
    texts = "\n".join(f"{text}\n{MARKER}" for text in (case.ir for case in cases))
    done = tool(*command, "--split-input-file", text=texts.rpartition(MARKER)[0])
    parts = done.stdout.split(MARKER + "\n")
    if len(parts) != len(cases):
        raise AssertionError(f"{command[0]}: {len(parts)} results of {len(cases)} modules, status "
                             f"{done.returncode}: {done.stderr[-2000:]}")
    starts, line = [], 1
    for case in cases:
        starts.append(line)
        line += case.ir.count("\n") + 2
    for at, message in re.findall(r"<stdin>:(\d+):\d+: (error: .*)", done.stderr):
        index = max(i for i, start in enumerate(starts) if start <= int(at))
        cases[index].fault = cases[index].fault or message
    for case, part in zip(cases, parts):
        if not part.strip() and not case.fault:
            case.fault = f"{command[0]}: no result: {done.stderr[-500:]}"
        case.ir = part
    return [case for case in cases if not case.fault]


def calculate(name, command, cases, pairs):
    """Runs the segments of `cases`, which are among `pairs`, and compares."""
    done = subprocess.run([*command, *pairs], stderr=subprocess.PIPE, text=True, env={
        **os.environ, "PYTHONPATH": os.path.join(BIN, "..", "lib", "tombolo", "python")})
    faults = dict(re.findall(r"^(.*main\.txtpb): (error: .*)", done.stderr, re.M))
    if done.returncode and not faults:
        raise AssertionError(f"{name}: status {done.returncode}: {done.stderr[-2000:]}")
    for case in cases:
        case.fault = faults.get(os.path.join(case.folder, "main.txtpb"), "")
        if not case.fault:
            case.compare()
        if case.fault and name != "cpu":
            case.fault = f"{name}: {case.fault}"


def run(cases, folder):
    """Imports, converts, runs and compares."""
    for case in cases:
        case.write(folder)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(Case.translate, cases))
    cases = [case for case in cases if not case.fault]
    for way, passes in (("device", []), ("folded", ["--graph-fold-constants"])):
        some = [case for case in cases if case.way == way]
        some = convert(some, ["tombolo-opt", "--graph-assign-dropout=ratio=0", *passes,
                              "--graph-convert-segments"])
        some = convert(some, ["tombolo-translate", "--print-segment",
                              "--output-split-marker=" + MARKER])
        pairs = []
        for case in some:
            path = os.path.join(case.folder, "main.txtpb")
            with open(path, "w") as file:
                file.write(case.ir)
            pairs += [path, case.folder]
        for name, command in EXECUTORS.items():
            calculate(name, command, [case for case in some if not case.fault], pairs)


def reason_of(case):
    return next((reason for pattern, reason in REASONS if re.search(pattern, case.fault)), None)


class OnnxNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        accepted = tool("tombolo-translate", "--list-onnx-operators", text="").stdout.split()
        cls.accepted, cls.cases, cls.others = accepted, [], collections.Counter()
        for name in sorted(os.listdir(DATA)):
            model = onnx.load(os.path.join(DATA, name, "model.onnx"))
            foreign = {node.op_type for node in model.graph.node
                       if node.op_type not in accepted or node.domain not in ("", "ai.onnx")}
            if foreign:
                cls.others.update(foreign)
                continue
            lift(model)
            for data in sorted(os.listdir(os.path.join(DATA, name))):
                if data.startswith("test_data_set_"):
                    for way in ("device", "folded"):
                        cls.cases.append(Case(f"{name}.{data[14:]}", model,
                                              os.path.join(DATA, name, data), way))
        with tempfile.TemporaryDirectory() as folder:
            run(cls.cases, folder)
        cls.report()

    @classmethod
    def report(cls):
        print(f"{len(cls.accepted)} accepted operators: {', '.join(cls.accepted)}")
        for way in FLOOR:
            cases = [case for case in cls.cases if case.way == way]
            passed = [case for case in cases if not case.fault]
            print(f"\n{way}: {len(passed)} of {len(cases)} cases pass, of these operators:")
            count = collections.Counter(op for case in passed for op in case.ops)
            print("  " + ", ".join(f"{op} {n}" for op, n in sorted(count.items())))
            skipped = collections.defaultdict(list)
            for case in cases:
                if case.fault:
                    skipped[reason_of(case) or "NO KNOWN REASON"].append(case)
            for reason, some in sorted(skipped.items()):
                print(f"  {len(some)} not run: {reason}")
                print("    " + ", ".join(case.name for case in some))
        print("\nnot accepted (cases that have the operator): "
              + ", ".join(f"{op} {n}" for op, n in cls.others.most_common()))

    def test_every_case_agrees_or_says_why_it_does_not_run(self):
        faults = [f"{case.name} ({case.way}; {', '.join(case.ops)}): {case.fault}"
                  for case in self.cases if case.fault and not reason_of(case)]
        self.assertFalse(faults, "\n" + "\n".join(faults))

    def test_as_many_cases_pass_as_ever(self):
        for way, floor in FLOOR.items():
            passed = sum(case.way == way and not case.fault for case in self.cases)
            self.assertGreaterEqual(passed, floor, way)


if __name__ == "__main__":
    unittest.main()

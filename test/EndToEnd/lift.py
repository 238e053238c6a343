"""ONNX files of opsets that Debian's PyTorch does not write, made of those it does: the
operators that opsets 18 to 21 changed take their new form, and what newer exporters write
as one operator becomes one."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

IR_VERSION = {18: 8, 19: 9, 20: 9, 21: 10}
REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
              "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"}


def lift(source, target, opset):
    """Writes the model of `source`, of opset 17, as `target`, of a newer one."""
    model = onnx.load(source)
    graph = model.graph
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = IR_VERSION[opset]
    Lifter(graph, opset).run()
    onnx.save(model, target)


class Lifter:
    def __init__(self, graph, opset):
        self.graph, self.opset = graph, opset
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.changed = set()

    def run(self):
        nodes = [self.lifted(node) for node in self.graph.node]
        if self.opset >= 20:
            nodes = self.with_gelus(nodes)
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def constant(self, name, values):
        self.graph.initializer.append(
            numpy_helper.from_array(np.asarray(values, dtype=np.int64), name))
        return name

    def known(self, name):
        """The elements of an initializer or a constant; else None."""
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.makers.get(name)
        if node is not None and node.op_type == "Constant":
            return numpy_helper.to_array(node.attribute[0].t)
        return None

    def lifted(self, node):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = list(node.input)
        if node.op_type in REDUCTIONS and "axes" in attributes:
            # Opset 18: axes are an operand.
            inputs.append(self.constant(node.output[0] + "_axes", attributes.pop("axes")))
        elif node.op_type == "Split":
            # Opset 18: either sizes, or the number of equal parts.
            sizes = self.known(inputs[1]) if len(inputs) > 1 else None
            if sizes is None or len(set(sizes)) == 1:
                inputs, attributes["num_outputs"] = inputs[:1], len(node.output)
        elif node.op_type == "Pad":
            # Opset 18: axes that are padded. A length for each of both sides.
            # Those that the graph computes stay as they are, which holds, too.
            pads = self.known(inputs[1])
            if pads is not None:
                rank = len(pads) // 2
                axes = [i for i in range(rank) if pads[i] or pads[i + rank]]
                inputs[1] = self.constant(node.output[0] + "_pads",
                                          [pads[i] for i in axes] + [pads[i + rank] for i in axes])
                inputs += [""] * (3 - len(inputs))
                inputs.append(self.constant(node.output[0] + "_axes", axes))
        elif node.op_type == "Cast" and self.opset >= 19:
            attributes["saturate"] = 1
        elif node.op_type == "AveragePool" and self.opset >= 19:
            attributes["dilations"] = [1] * len(attributes["kernel_shape"])
        else:
            return node
        self.changed.add(node.op_type)
        return helper.make_node(node.op_type, inputs, list(node.output), name=node.name,
                                **attributes)

    def with_gelus(self, nodes):
        """x / sqrt(2), Erf, + 1, x *, / 2, which older exporters write, becomes Gelu."""
        readers = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)

        def reader(node, kind):
            found = readers.get(node.output[0], [])
            return found[0] if len(found) == 1 and found[0].op_type == kind else None

        dead, gelus = set(), {}
        for erf in nodes:
            if erf.op_type != "Erf":
                continue
            scaled = self.makers[erf.input[0]]
            plus = reader(erf, "Add")
            times = reader(plus, "Mul") if plus else None
            half = reader(times, "Mul") if times else None
            if scaled.op_type != "Div" or half is None or scaled.input[0] not in times.input:
                continue
            dead.update(id(node) for node in (scaled, erf, plus, times))
            gelus[id(half)] = helper.make_node(
                "Gelu", [scaled.input[0]], list(half.output), name=half.name)
            self.changed.add("Gelu")
        return [gelus.get(id(node), node) for node in nodes if id(node) not in dead]

"""The JSON Schemas of sites.yaml and strategy.yaml accept and refuse what their readers do."""

import copy
import json
import os
import pathlib
import re
import subprocess
import tempfile

import jsonschema
import yaml

import support

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"

# Every key there is.
SITES = """\
chips:
  - name: a
    tflops: {f32: 19.5, bf16: 312}
    memory_gib: 80
    memory_gbytes_per_second: 2039
    efficiency: {matmul: 0.62, memory: 0.8, launch_us: 3, kernel_us: 2, score_bytes: 4, transfer_us: 5, step_ms: 1,
                 exposed_reduction: 0.5, ring_rate: 0.7, ring_latency: 2, message_part: 0.9,
                 corrections: [{tensor_parallel: 2, gflops: 10, mbytes: 3, ratio: 0.9}]}
    price_per_hour: 2.0
  - {name: 2024, tflops: {bf16: 100}, memory_gib: 16, memory_gbytes_per_second: 900,
     efficiency: {matmul: 0.5, memory: 1}}
sites:
  - name: north
    hosts: {count: 2, memory_gib: 512, disk_gbytes_per_second: 2, address: "10.1.0.1:7000"}
    pools:
      - {name: x, chip: a, nodes: 16, chips_per_node: 8, nics_per_node: 4,
         intra_node: {gbits_per_second: 2400, latency_us: 3},
         inter_node: {gbits_per_second: 200, latency_us: 8}}
      - {name: y, chip: 2024, nodes: 1, chips_per_node: 1}
    fabric: {gbits_per_second: 100, latency_us: 12}
    fabrics: [{pools: [x, y], gbits_per_second: 50, latency_us: 15}]
  - name: south
    pools: [{name: x, chip: a, nodes: 1, chips_per_node: 1}]
links:
  - {sites: [north, south], gbits_per_second: 10, rtt_ms: 30, loss: 0.0001}
"""
STRATEGY = """\
islands:
  - sites: [north]
    batch: 128
    microbatch: 4
    schedule: interleaved
    chunks: 2
    inner_steps: 16
    stages:
      - {pool: north/x, data_parallel: 2, tensor_parallel: 4, blocks: 20, recompute: none}
      - blocks: 12
        recompute: 3
        optimizer_sharding: true
        replicas:
          - {pool: north/y, count: 1, tensor_parallel: 2, share: 3}
          - {pool: north/x, count: 1, tensor_parallel: 4, share: 1}
server:
  inner_steps: 16
  fragments: 8
  overlap_steps: 2
  compression: int8
  outer: {optimizer: nesterov, lr: 0.7, momentum: 0.9}
  quorum: 1
  deadline_seconds: 60
  placement: {0: {primary: north, backup: south}}
  witness: north
sharding:
  - block: 1
    tensor_parallel: 2
    parameters: {w.0: {dim: 1, outer: 3}, b: {}}
    inputs: [{dim: 0}]
    outputs: [{}]
    ops: [{function: forward, op: 4, factor: 1, outer: 2}, {function: backward_input, op: 0, linear: 0}]
"""

# What only several places of a file, or other files, tell together.
TOGETHER = re.compile(r"""
    is\ not\ defined\ under\ 'chips' | duplicate\ (chip|site|pool)\ name | that\ is\ not\ defined
  | has\ no\ pool | duplicate\ (fabric|link) | several\ (chips\ in\ a\ node|nodes)
  | chips\ in\ all\ pools | has\ a\ second\ sharding | cannot\ use\ the\ profile
  | only\ a\ profile\ with\ a\ 'peak' | a\ table\ of\ layer\ times\ needs""", re.VERBOSE)

# What may stand in place of a value, as YAML has it.
TOKENS = ["x", "'x'", '""', "a/b", "a/b/c", "a:7", "a:70000", "none", "full", "1f1b", "sgd", "north", "0", "1", "2", "-1",
          "1.5", "0.05", "1.0", "'4'", '"4"', "4e0", "0x10", "0o17", "1_000", "+4", "08", "0x1p3", "1e20", "-1e20", ".inf",
          "inf", "nan", "true", "True", "yes", "'true'", "null", "~", "", "'null'", "[]", "{}", "[x]", "[x, y]", "[x, x]",
          "[x, y, z]", "[1, 2]", "{a: b}", "[[x]]", "2000000", "99999999999", "99999999999999999999"]


class Loader(yaml.CSafeLoader):
    """YAML 1.2's core schema, which JSON Schema is made for; PyYAML's own is that of 1.1."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicated key {key.value}", key.start_mark)
            seen.add(key.value)
            key.tag = "tag:yaml.org,2002:str"  # as JSON's are
        return super().construct_mapping(node, deep)


def whole(loader, node):
    text = loader.construct_scalar(node)
    base = {"0x": 16, "0o": 8}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


Loader.add_constructor("tag:yaml.org,2002:int", whole)
for tag, pattern, first in [
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
        ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"])]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


def places(value, path=()):
    """The paths of everything in a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, path + (key,))


def changed(document, path, change):
    """The document after `change(parent, key)`."""
    document = copy.deepcopy(document)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return document


class Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data):
        return True


def written(document):
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=1000)


def mutants(text):
    """Files that differ from this one in one thing."""
    document = yaml.load(text, Loader)

    def rename(parent, key):
        parent["unheard-of"] = parent.pop(key)

    for path in places(document):
        if path:
            yield written(changed(document, path, lambda parent, key: parent.pop(key)))
            mark = written(changed(document, path, lambda parent, key: parent.__setitem__(key, "MARK")))
            for token in TOKENS:
                yield mark.replace("MARK", token)
            if isinstance(path[-1], str):
                yield written(changed(document, path, rename))
            else:
                yield written(changed(document, path, lambda parent, key: parent.append(parent[key])))
        value = document
        for key in path:
            value = value[key]
        if isinstance(value, dict):  # one key of too many; one key twice
            yield written(changed({"": document}, ("",) + path,
                                  lambda parent, key: parent[key].__setitem__("extra", 1))[""])
    yield text + "extra: 1\n"
    yield text + text
    for other in ["{}", "[]", "x", "1", "[" + text.splitlines()[0] + "]"]:
        yield other


class Reader:
    """The programs' own reader, one process for all files."""

    def __init__(self):
        self.process = subprocess.Popen([os.path.join(support.BIN, "tombolo-read-yaml")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def faults(self, kind, file):
        self.process.stdin.write(f"{kind} {file}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line.endswith("\n"), f"the reader died of {file}"
        return line.rstrip()


class SchemaTest(support.TomboloTest):
    def check(self, kind, text, examples):
        schema = json.loads(support.run("tombolo-plan", "--print-schema", kind).stdout)
        jsonschema.Draft7Validator.check_schema(schema)
        validator = jsonschema.Draft7Validator(schema)
        reader = Reader()
        self.addCleanup(reader.close)
        verdicts = {"accepted": 0, "refused": 0, "refused together": 0}
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "f.yaml")

            def compare(text):
                with open(file, "w") as out:
                    out.write(text)
                faults = reader.faults(kind, file)
                try:
                    wrong = [error.message for error in validator.iter_errors(yaml.load(text, Loader))]
                except yaml.YAMLError as error:
                    wrong = [str(error)]
                if faults and not wrong:
                    self.assertRegex(faults, TOGETHER, f"only the reader refuses\n{text}")
                    verdicts["refused together"] += 1
                else:
                    self.assertEqual(bool(faults), bool(wrong), f"reader: {faults}\nschema: {wrong}\n{text}")
                    verdicts["refused" if wrong else "accepted"] += 1
                return not faults

            for example in [text] + [path.read_text() for path in examples]:
                self.assertTrue(compare(example), example)
            for mutant in mutants(text):
                compare(mutant)
        self.assertGreater(verdicts["refused"], 1000)
        self.assertGreater(verdicts["accepted"], 100)
        return schema, verdicts

    def test_of_sites(self):
        examples = [path for path in EXAMPLES.glob("*.yaml") if "strategy" not in path.name]
        self.assertGreater(len(examples), 5)
        schema, verdicts = self.check("sites", SITES, examples)
        self.assertGreater(verdicts["refused together"], 10)
        self.every_key_is_explained(schema)

    def test_of_strategies(self):
        examples = list(EXAMPLES.glob("*strategy.yaml"))
        self.assertGreater(len(examples), 1)
        schema, _ = self.check("strategy", STRATEGY, examples)
        self.every_key_is_explained(schema)

    def every_key_is_explained(self, schema):
        if isinstance(schema, dict):
            for key, value in schema.get("properties", {}).items():
                self.assertTrue(value["description"], key)
            for value in schema.values():
                self.every_key_is_explained(value)

    def test_a_strategy_that_is_written_satisfies_its_schema(self):
        schema = json.loads(support.run("tombolo-plan", "--print-schema", "strategy").stdout)
        with tempfile.TemporaryDirectory() as folder:
            model, plan, figures = (os.path.join(folder, name) for name in ("m.onnx", "p.plan", "p.json"))
            support.run("tombolo-model", "gpt", "--layers", "2", "--hidden", "32", "--heads", "2", "--vocab", "64",
                        "--seq", "16", "-o", model)
            support.run("tombolo-plan", model, "--topology", EXAMPLES / "two-sites.yaml", "--global-batch", "8",
                        "-o", plan, "--json", figures)
            with open(figures) as file:
                jsonschema.validate(json.load(file)["strategy"], schema)


class PrintSchema(support.TomboloTest):
    def test_needs_no_model_and_takes_none(self):
        for args, error in [((), "--print-schema"), (("plans",), "not in {sites,strategy}"),
                            (("sites", "m.onnx"), "excludes")]:
            result = support.run("tombolo-plan", "--print-schema", *args, check=False)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(error, result.stderr)

    def test_tells_when_its_output_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([os.path.join(support.BIN, "tombolo-plan"), "--print-schema", "sites"], stdout=full,
                                    stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot write to standard output", result.stderr)

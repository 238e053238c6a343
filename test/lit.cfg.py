import os

import lit.formats

config.name = "tombolo"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test", ".yaml"]
config.excludes = ["Inputs", "unit"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.tombolo_binary_dir, "test", "out")

config.environment["PATH"] = os.pathsep.join(
    [config.tombolo_tools_dir, config.llvm_tools_dir, os.environ["PATH"]])
config.environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")

# --param roundtrip=1: every tombolo-opt also checks that its input survives
# printing and parsing.
opt = os.path.join(config.tombolo_tools_dir, "tombolo-opt")
if lit_config.params.get("roundtrip"):
    opt += " --verify-roundtrip"
    config.test_exec_root += "-roundtrip"
config.substitutions.append((r"\btombolo-opt\b", opt))
config.substitutions.append(("%source", config.tombolo_source_dir))
config.substitutions.append(("%python", config.python))

"""The messages of plan.proto are made when the wheel is built, as CMake makes them for
runtime/torch; the version is that of the programs."""

import pathlib
import re
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent.parent


class BuildWithMessages(build_py):
    def run(self):
        super().run()
        schema = ROOT / "runtime" / "schema"
        out = pathlib.Path("." if self.editable_mode else self.build_lib, "tombolo", "schema")
        protoc = shutil.which("protoc")
        if protoc is None:
            raise SystemExit("error: protoc not found; install protobuf-compiler")
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run([protoc, f"--proto_path={schema}", f"--python_out={out}", "plan.proto"],
                       check=True)


def version():
    try:
        text = (ROOT / "CMakeLists.txt").read_text()
    except OSError:
        raise SystemExit("error: expected the folder python/ in a checkout of Tombolo, whose "
                         "CMakeLists.txt and runtime/schema it needs") from None
    return re.search(r"project\(Tombolo VERSION ([\d.]+)", text).group(1)


setup(version=version(), cmdclass={"build_py": BuildWithMessages})

"""The commands of docs/Tutorial.md, run as they stand there."""

import json
import os
import pathlib
import re
import subprocess
import sys

import onnx

import support
import test_python
from test_python import setUpModule  # builds and installs the package

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Tutorial(support.TomboloTest):
    def lines(self, name):
        return [json.loads(line) for line in pathlib.Path(self.path(name)).read_text().splitlines()]

    def check_run(self, lines, islands, steps):
        for island in islands:
            losses = [line["loss"] for line in lines
                      if "event" not in line and line["island"] == island]
            self.assertEqual(len(losses), steps)
            self.assertLess(losses[-1], losses[0] - 1)

    def test_every_command(self):
        # As in a virtual environment, python3 is the one that has torch.
        os.mkdir(self.path("bin"))
        os.symlink(sys.executable, self.path("bin/python3"))
        result = subprocess.run(
            # Ends what the script has started as well.
            ["timeout", "--kill-after=5", "400", sys.executable, ROOT / "utils/tutorial", self.dir],
            env=test_python.environment(PATH=f"{self.path('bin')}:{support.BIN}:{os.environ['PATH']}",
                                        PYTHONWARNINGS="ignore"),
            capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        # What the page shows of the plan's table is what comes out, to the figures.
        def shape(line):
            return re.sub(r"[\d.]+", "#", " ".join(line.split()))

        printed = [shape(line) for line in result.stdout.splitlines()]
        text = (ROOT / "docs/Tutorial.md").read_text()
        shown = re.search(r"^```text\n(.*?)^```$", text, re.M | re.S)[1].splitlines()
        for line in shown:
            if line != "...":
                self.assertIn(shape(line), printed)
        plan = json.loads(pathlib.Path(self.path("plan.json")).read_text())
        self.assertEqual([island["batch"] for island in plan["strategy"]["islands"]], [12, 12])
        self.assertIn("site north fails", result.stdout)
        for page in ("plan", "lost", "run", "south"):
            self.assertGreater(pathlib.Path(self.path(f"{page}.html")).stat().st_size, 50_000)
        self.check_run(self.lines("metrics.jsonl"), [0, 1], 200)
        self.check_run(self.lines("north.jsonl"), [0], 40)
        self.check_run(self.lines("south.jsonl"), [1], 40)
        onnx.checker.check_model(onnx.load(self.path("trained.onnx")))

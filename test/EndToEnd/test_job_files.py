"""The job files of `tombolo-run site --emit`: those of Kubernetes against the published schema of
its API, those of a shell by running them. Those of Slurm: test_slurm.py."""

import base64
import copy
import json
import os
import re
import shutil
import stat
import subprocess
import unittest

import support

try:
    import jsonschema
except ImportError:
    jsonschema = None

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KINDS = {"Job": "io.k8s.api.batch.v1.Job", "Service": "io.k8s.api.core.v1.Service",
         "Secret": "io.k8s.api.core.v1.Secret"}
STEPS = 8


class JobFiles(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 2, "--hidden", 16, "--heads", 2, "--vocab",
                    64, "--seq", 8, "-o", self.onnx)
        self.tokens()
        # North's two machines have one chip each; south is one machine.
        self.sites = support.topology({"north": 1, "south": 1}).replace("nodes: 1", "nodes: 2", 1)
        self.make(self.sites, {"inner_steps": 4})

    def make(self, sites, server):
        self.plan_file = self.plan(self.onnx, sites, support.strategy(
            [support.island("north", 8, 4, [2, 2]), support.island("south", 4, 4, [4])],
            {"fragments": 1, "overlap_steps": 0, "compression": "none", **server}), 12)

    def certificates(self, *sites):
        subprocess.run([os.path.join(ROOT, "utils/make-certs"), self.path("certs"), *sites],
                       check=True, stderr=subprocess.DEVNULL)
        return ["--certs", self.path("certs")]

    def emit(self, kind, *more, check=True, steps=STEPS, **kwargs):
        result = support.run("tombolo-run", "site", self.plan_file, "--model", self.onnx, "--data",
                             self.path("tokens.bin"), "--steps", steps, "--threads", 1, "--emit",
                             kind, "-o", self.path("jobs"), *more, check=check, **kwargs)
        return [line for line in result.stdout.split("\n") if line] if check else result


@unittest.skipUnless(jsonschema, "python3-jsonschema is missing: utils/install-dependencies")
class Kubernetes(JobFiles):
    def setUp(self):
        super().setUp()
        with open(os.path.join(HERE, "kubernetes-1.27.1.json")) as file:
            self.schema = json.load(file)

    def faults(self, item):
        return [error.message for error in jsonschema.Draft7Validator(
            {"$ref": "#/$defs/" + KINDS[item["kind"]], **self.schema}).iter_errors(item)]

    def items(self, files):
        """By kind and name, each found right by the schema."""
        found = {}
        for path in files:
            with open(path) as file:
                text = json.load(file)
            for item in text["items"] if text["kind"] == "List" else [text]:
                self.assertEqual(self.faults(item), [], item)
                found[item["kind"], item["metadata"]["name"]] = item
        return found

    def test_two_sites(self):
        files = self.emit("kubernetes", *self.certificates("north", "south"), "--peer",
                          "north=203.0.113.7:7000", "--run-id", "Run_1", "--image",
                          "registry.example/tombolo:1", "--volume", "train=/data",
                          "--checkpoint-dir", "/data/saved", "--checkpoint-copy", "/data/copies",
                          "--restarts", 5, "--gateway", "--job-option", "nvidia.com/gpu=1")
        items = self.items(files)
        north, south = "tombolo-run-1-north", "tombolo-run-1-south"
        self.assertEqual(set(items), {
            ("Job", north), ("Service", north), ("Service", north + "-server"),
            ("Secret", north + "-certs"), ("Job", south), ("Service", south),
            ("Secret", south + "-certs")})
        self.assertEqual(items["Service", north]["spec"]["clusterIP"], "None")
        spec = items["Job", north]["spec"]
        self.assertEqual((spec["completionMode"], spec["completions"], spec["parallelism"],
                          spec["backoffLimit"]), ("Indexed", 2, 2, 10))
        pod = spec["template"]["spec"]
        self.assertEqual((pod["subdomain"], pod["restartPolicy"]), (north, "Never"))
        container = pod["containers"][0]
        self.assertEqual({each["name"]: each["value"] for each in container["env"]},
                         {"TOMBOLO_PROCESSES": "2", "TOMBOLO_MEETING": f"{north}-0.{north}:7100"})
        self.assertEqual(container["resources"]["limits"], {"nvidia.com/gpu": "1"})
        words = container["args"]
        self.assertEqual(words[words.index("--address") + 1], f"{north}-0.{north}:7000")
        self.assertEqual(words[words.index("--launcher") + 1], "kubernetes")
        self.assertEqual(words[words.index("--checkpoint-copy") + 1], "/data/copies")
        # The commands are understood: what is missing is what the container has.
        for site in (north, south):
            words = items["Job", site]["spec"]["template"]["spec"]["containers"][0]["args"]
            self.assertIn("--gateway", words)
            words[1] = self.path("nowhere.plan")
            result = support.run("tombolo-run", *words, check=False, env={
                "JOB_COMPLETION_INDEX": "0", "TOMBOLO_PROCESSES": "1", "TOMBOLO_MEETING": "x:1"})
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("nowhere.plan", result.stderr)
        south_words = items["Job", south]["spec"]["template"]["spec"]["containers"][0]["args"]
        self.assertEqual(south_words[south_words.index("--server") + 1], "203.0.113.7:7000")
        # Each site gets its own keys, and nobody the authority's.
        names = {site: set(items["Secret", site + "-certs"]["data"]) for site in (north, south)}
        self.assertEqual(names, {north: {"ca.crt", "north.crt", "north.key", "server.crt",
                                         "server.key"},
                                 south: {"ca.crt", "south.crt", "south.key"}})
        for name, data in items["Secret", north + "-certs"]["data"].items():
            with open(self.path("certs/" + name), "rb") as file:
                self.assertEqual(base64.b64decode(data, validate=True), file.read())
        for path in files:
            secret = path.endswith("-certs.json")
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600 if secret else 0o644)

    def test_a_witness(self):
        self.make(support.topology({"north": 1, "south": 1, "east": 1}).replace("nodes: 1", "nodes: 2", 1),
                  {"inner_steps": 4, "placement": "{0: {primary: north, backup: south}}",
                   "witness": "east"})
        items = self.items(self.emit(
            "kubernetes", *self.certificates("north", "south", "east"), "--image", "i", "--volume",
            "train=/data", "--checkpoint-dir", "/data/saved",
            *(word for site in ("north", "south", "east") for word in ("--peer", f"{site}=h-{site}:1"))))
        east = items["Job", "tombolo-east"]["spec"]
        self.assertEqual(east["completions"], 1)
        words = east["template"]["spec"]["containers"][0]["args"]
        self.assertEqual(words[0], "server")
        self.assertIn("north=h-north:1", words)
        self.assertEqual(set(items["Secret", "tombolo-east-certs"]["data"]),
                         {"ca.crt", "server.crt", "server.key"})

    def test_the_schema_finds_faults(self):
        items = self.items(self.emit("kubernetes", *self.certificates("north", "south"), "--peer",
                                     "north=h:7000", "--image", "i"))
        job = items["Job", "tombolo-north"]
        for change in (lambda job: job["spec"].update(completions="two"),
                       lambda job: job["spec"].update(completionmode="Indexed"),
                       lambda job: job["spec"].pop("template"),
                       lambda job: job["spec"]["template"]["spec"]["containers"][0].pop("name"),
                       lambda job: job.update(apiVersion="batch/v2")):
            changed = copy.deepcopy(job)
            change(changed)
            self.assertNotEqual(self.faults(changed), [])


class Shell(JobFiles):
    def test_the_scripts_of_two_sites_train_as_one_command_does(self):
        expected = {island: [entry["loss"] for entry in entries]
                    for island, entries in self.train(self.plan_file, self.onnx, STEPS).items()}
        north, south = self.emit("shell", *self.certificates("north", "south"), "--peer",
                                 f"north=127.0.0.1:{support.free_port()}", "--rendezvous",
                                 f"127.0.0.1:{support.free_port()}", "--checkpoint-dir", self.path("saved"))
        started = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    stdin=subprocess.DEVNULL)
                   for words in ([south], [north, "1"], [north, "0"])]
        text = ""
        for process in started:
            out, errors = process.communicate(timeout=support.TIMEOUT_SECONDS)
            self.assertEqual(process.returncode, 0, errors)
            text += out
        losses = {}
        for line in text.split("\n"):
            if '"loss"' in line and '"event"' not in line:
                entry = json.loads(line)
                losses[entry["island"], entry["step"]] = entry["loss"]
        for island in expected:
            self.assertEqual([losses[island, step] for step in range(STEPS)], expected[island])

    def test_a_site_without_a_server_goes_on_from_its_checkpoint(self):
        """The job is started again by who has it; the script takes what was saved."""
        plan = self.plan(self.onnx, support.topology({"east": 1}), support.strategy(
            [support.island("east", 4, 4, [4])]), 4)
        expected = self.losses(plan, self.onnx, STEPS)
        self.plan_file = plan
        saved = self.path("saved dir's")
        text = ""
        for steps in (2, 3, STEPS):
            script, = self.emit("shell", "--checkpoint-dir", saved, "--checkpoint-copy",
                                self.path("copies"), steps=steps)
            if steps == STEPS:
                shutil.rmtree(saved)  # the copy is left
            text += subprocess.run([script], check=True, capture_output=True, text=True).stdout
        losses = {step["step"]: step["loss"] for line in text.split("\n") if '"loss"' in line
                  and "event" not in (step := json.loads(line))}
        self.assertEqual([losses[step] for step in range(STEPS)], expected)

    def test_what_is_started_again(self):
        """Another program in the place of tombolo-run: it fails twice by a signal."""
        self.plan_file = self.plan(self.onnx, support.topology({"east": 1}), support.strategy(
            [support.island("east", 4, 4, [4])]), 4)
        script, = self.emit("shell", "--restarts", 2)
        for status, tries in ((137, 3), (143, 1), (1, 1), (2, 1), (3, 1), (0, 1)):
            other = self.write("other", f"#!/bin/sh\necho again >>{self.path('count')}\nexit {status}\n")
            os.chmod(other, 0o755)
            result = subprocess.run([script], env={**os.environ, "TOMBOLO_RUN": other}, text=True,
                                    capture_output=True)
            self.assertEqual(result.returncode, status, result.stderr)
            with open(self.path("count")) as file:
                self.assertEqual(len(file.readlines()), tries, status)
            os.remove(self.path("count"))


class Refused(JobFiles):
    def refused(self, status, words, *more, kind="slurm", **kwargs):
        result = self.emit(kind, *more, check=False, **kwargs)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertIn(words, result.stderr)
        self.assertFalse(os.path.exists(self.path("jobs")))

    def test_what_cannot_be_a_job(self):
        certificates = self.certificates("north", "south")
        peer = ["--peer", "north=h:7000"]
        self.refused(2, "--peer: expected the address of each server of the plan, north=HOST:PORT; "
                     "that of north is missing", *certificates)
        self.refused(2, "got 'south=h:7000'", *certificates, "--peer", "south=h:7000")
        self.refused(2, "got 'north=h'", *certificates, "--peer", "north=h")
        self.refused(2, "--certs: expected the folder of utils/make-certs", *peer)
        self.refused(2, "--gateway: it keeps the site's key", *peer, "--plaintext", "--gateway")
        self.refused(2, "--server, --address", *certificates, *peer, "--address", "h:7000")
        self.refused(1, "it has no rank at site 'west'", *certificates, *peer, "--site", "west")
        self.refused(1, "expected a number by which the 1 ranks at site south can be divided, got 2",
                     *certificates, *peer, "--processes", 2)
        self.refused(2, "--rendezvous: site north has 2 processes", *certificates, *peer, kind="shell")
        self.refused(2, "--transport mpi: expected job files of slurm", *certificates, *peer,
                     "--transport", "mpi", kind="kubernetes")
        self.refused(2, "--image: expected", *certificates, *peer, kind="kubernetes")
        image = [*certificates, *peer, "--image", "i"]
        self.refused(2, "expected CLAIM=/PATH, got 'claim'", *image, "--volume", "claim",
                     kind="kubernetes")
        self.refused(2, "expected NAME=QUANTITY", *image, "--job-option", "gpu", kind="kubernetes")
        self.refused(2, "expected an absolute path in the container", *image, "--checkpoint-dir",
                     "saved", kind="kubernetes")
        self.refused(1, "is too long for a job of Kubernetes", *image, "--run-id", "r" * 60,
                     kind="kubernetes")
        os.remove(self.path("certs/south.key"))
        self.refused(1, "south.key", *image, kind="kubernetes")
        result = support.run("tombolo-run", "site", self.plan_file, "--model", self.onnx, "--data",
                             self.path("tokens.bin"), "--steps", 1, check=False)
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, "--site: expected the site's name, or --emit")

    def test_words_of_a_shell(self):
        """What stands in names and paths is never taken for something else."""
        odd = self.path("a b'c$(touch oops)")
        os.rename(self.path("tokens.bin"), odd)
        self.plan_file = self.plan(self.onnx, support.topology({"east": 1}), support.strategy(
            [support.island("east", 4, 4, [4])]), 4)
        result = support.run("tombolo-run", "site", self.plan_file, "--model", self.onnx, "--data", odd,
                             "--steps", 2, "--emit", "shell", "-o", self.path("jobs"))
        script = subprocess.run([result.stdout.strip()], capture_output=True, text=True, cwd=self.dir)
        self.assertEqual(script.returncode, 0, script.stderr)
        self.assertEqual(len(re.findall('"loss"', script.stdout)), 2)
        self.assertFalse(os.path.exists(self.path("oops")))


if __name__ == "__main__":
    unittest.main()

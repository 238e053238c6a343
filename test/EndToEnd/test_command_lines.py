"""Help, manual pages and completions: what every program tells about its own options."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shlex
import struct
import subprocess
import termios
import unittest

import support

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARE = pathlib.Path(support.BIN).parent / "share"
RUN = ["local", "site", "server", "rank", "status", "admin"]
# In an order in which each has what the examples of those before it write.
PROGRAMS = [[f"tombolo-{name}"] for name in ("model", "plan", "sim", "run", "report", "profile",
                                             "translate", "opt", "lsp-server")
            if os.path.exists(os.path.join(support.BIN, f"tombolo-{name}"))]
COMMANDS = PROGRAMS + [["tombolo-run", command] for command in RUN]
# What asks other machines, or waits for them.
APART = {("tombolo-run", command) for command in ("site", "server", "rank", "status", "admin")}


def told(command):
    return json.loads(support.run(*command, "--describe-options").stdout)


def shown(command, columns, **env):
    """What a command prints on a terminal so wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs,
                               env={**os.environ, "TERM": "xterm", **env}, start_new_session=True)
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 1 << 16):
            text += data
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    process.wait()
    return text.decode().replace("\r\n", "\n")


class Examples(support.TomboloTest):
    def test_every_help_opens_with_an_example_of_the_command(self):
        for command in COMMANDS:
            with self.subTest(command):
                text = support.run(*command, "--help").stdout
                head, first = text.split("\n")[:2]
                self.assertIn(head, ("example:", "examples:"))
                self.assertTrue(first.startswith("  " + command[0]), first)
                for example in told(command)["examples"]:
                    self.assertIn(" ".join(command), example)

    def test_every_program_tells_its_version(self):
        for command in COMMANDS:
            with self.subTest(command):
                text = support.run(*command, "--version").stdout
                self.assertRegex(text, "^" + " ".join(command) + r" \d+\.\d+\.\d+\n$")

    def test_the_examples_work(self):
        self.write("sites.yaml", (ROOT / "examples" / "two-sites.yaml").read_text())
        self.tokens(vocab=256)
        done = 0
        for command in COMMANDS:
            if tuple(command) in APART:
                continue
            for example in told(command)["examples"]:
                words = shlex.split(example)
                if "--fit" in words:
                    continue  # needs a table of measured runs: test/Tools/tombolo-profile.test
                if "--steps" in words:
                    words[words.index("--steps") + 1] = "3"  # 100 take long
                with self.subTest(example):
                    if command == ["tombolo-profile"]:
                        words += ["--seconds", "0.2"]
                    if command == ["tombolo-lsp-server"]:
                        self.talk(words)
                    else:
                        support.run(*words, cwd=self.dir)
                    for flag in ("-o", "--json", "--metrics", "--export-onnx"):
                        if flag in words:
                            file = words[words.index(flag) + 1]
                            self.assertTrue(os.path.exists(self.path(file)), file)
                done += 1
        self.assertGreaterEqual(done, 11)

    def talk(self, words):
        """As an editor does: hello, and the end."""
        said = b""
        for part in ({"id": 0, "method": "initialize", "params": {"capabilities": {}}},
                     {"id": 1, "method": "shutdown"}, {"method": "exit"}):
            text = json.dumps({"jsonrpc": "2.0", **part}).encode()
            said += b"Content-Length: %d\r\n\r\n" % len(text) + text
        result = subprocess.run([os.path.join(support.BIN, words[0]), *words[1:]], input=said,
                                capture_output=True, timeout=support.TIMEOUT_SECONDS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"capabilities", result.stdout)

    def test_the_examples_of_parts_are_understood(self):
        # Without their files: bad input, status 1, or nobody there; not wrong usage.
        for command in sorted(APART):
            for example in told(command)["examples"]:
                with self.subTest(example):
                    result = support.run(*shlex.split(example), cwd=self.dir, check=False)
                    self.assertIn(result.returncode, (1, 3), result.stderr)
                    self.assertRegex(result.stderr, "p.plan|127.0.0.1:9090|certs/north")


class Terminals(support.TomboloTest):
    def test_help_is_as_wide_as_the_terminal(self):
        for columns in (40, 60, 100, 200):
            for command in (["tombolo-plan"], ["tombolo-run", "local"], ["tombolo-model"]):
                lines = shown([os.path.join(support.BIN, command[0]), *command[1:], "--help"],
                              columns).split("\n")
                for line in lines:
                    # But for single words, like lists of choices.
                    if len(line) > min(columns, 100):
                        self.assertEqual(len(line.removesuffix(" \\").split()), 1, line)
                if columns >= 100:
                    self.assertGreater(max(map(len, lines)), 85)

    def test_help_in_a_pipe_has_80_columns_and_no_escapes(self):
        for command in COMMANDS:
            text = support.run(*command, "--help", env={"TERM": "xterm"}).stdout
            self.assertNotIn("\x1b", text)
        long = [line for line in support.run("tombolo-plan", "--help").stdout.split("\n")
                if len(line) > 80 and len(line.split()) > 1]
        self.assertEqual(long, [])

    def test_examples_can_be_pasted_from_a_narrow_terminal(self):
        text = shown([os.path.join(support.BIN, "tombolo-plan"), "--help"], 40)
        example = text[text.index("\n"):text.index("\n\n")]
        self.assertEqual(shlex.split(example.replace("\\\n", "")),
                         shlex.split(told(["tombolo-plan"])["examples"][0]))

    def test_no_color(self):
        for program in ("tombolo-plan", "tombolo-run", "tombolo-sim"):
            text = shown([os.path.join(support.BIN, program), "nowhere"], 80, NO_COLOR="1")
            self.assertNotIn("\x1b", text)


class CommandFiles(support.TomboloTest):
    def test_manual_pages_have_every_option_and_no_faults(self):
        for command in COMMANDS:
            page = SHARE / command[0] / "man" / "man1" / ("-".join(command) + ".1")
            result = subprocess.run(
                ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-P", "cat", page],
                capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS,
                env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""})
            self.assertEqual((result.returncode, result.stderr), (0, ""), page)
            text = re.sub(".\x08", "", result.stdout)  # bold and underlined
            for option in told(command)["options"]:
                for name in option["names"]:
                    self.assertRegex(text, rf"(?m)^ +(\S+, )?{re.escape(name)}\b", page)

    def complete_in_bash(self, line):
        """What bash offers for the last word of a line."""
        words = line.split(" ")
        script = (f"source {SHARE}/{words[0]}/bash-completion/completions/{words[0]}\n"
                  f"COMP_WORDS=({' '.join(map(shlex.quote, words))})\nCOMP_CWORD={len(words) - 1}\n"
                  f"_{words[0].replace('-', '_')}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
        result = subprocess.run(["bash", "--norc", "-euc", script], cwd=self.dir, text=True,
                                capture_output=True, timeout=support.TIMEOUT_SECONDS)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return set(result.stdout.split("\n")) - {""}

    def test_bash(self):
        self.write("a file.onnx", "")
        offered = self.complete_in_bash
        self.assertEqual(offered("tombolo-plan --optim"), {"--optimizer"})
        self.assertEqual(offered("tombolo-plan --optimizer "), {"sgd", "adamw"})
        self.assertEqual(offered("tombolo-plan --optimizer = a"), {"adamw"})
        self.assertEqual(offered("tombolo-plan a"), {"a file.onnx"})
        self.assertEqual(offered("tombolo-plan --topology a"), {"a file.onnx"})
        self.assertEqual(offered("tombolo-plan --lr "), set())
        self.assertEqual(offered("tombolo-run "), {*RUN, "-h", "--help", "--version"})
        self.assertEqual(offered("tombolo-run local --export"), {"--export-onnx"})
        self.assertIn("--state-dir", offered("tombolo-run server --"))
        self.assertIn("--graph-find-blocks", offered("tombolo-opt --graph-f"))
        for command in COMMANDS:
            names = {name for option in told(command)["options"] for name in option["names"]}
            self.assertEqual(offered(" ".join([*command, "-"])), names)

    def complete_in_zsh(self, line):
        """A line after the tab key, in a real zsh on a terminal."""
        paths = ":".join(str(SHARE / command[0] / "zsh" / "site-functions") for command in PROGRAMS)
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        process = subprocess.Popen(
            ["zsh", "-f", "-i"], cwd=self.dir, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, env={**os.environ, "TERM": "dumb", "PATH":
                                         support.BIN + ":" + os.environ["PATH"], "HOME": self.dir})
        os.close(theirs)
        self.addCleanup(os.close, ours)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def until(words):
            text = ""
            while not re.search(words, text):
                ready, _, _ = select.select([ours], [], [], 60)
                self.assertTrue(ready, f"zsh said no more after {text!r}")
                text += os.read(ours, 1 << 16).decode()
            return text

        def say(text):
            os.write(ours, text.encode())

        # Ctrl-X prints the line as it is, so that nothing has to be drawn.
        say(f"fpath=({paths.replace(':', ' ')} $fpath); autoload -Uz compinit; compinit -D -u; "
            "show() { print -r -- \"<<$BUFFER>>\" }; zle -N show; bindkey '^X' show; "
            "print rea''dy\r")
        until("\nready")
        say(line + "\t\x18")
        return re.search(r"<<(.*?)>>", until(">>"))[1]

    def test_zsh(self):
        self.write("only.onnx", "")
        for line, completed in (
                ("tombolo-plan --optimiz", "tombolo-plan --optimizer="),
                ("tombolo-plan --optimizer=sg", "tombolo-plan --optimizer=sgd "),
                ("tombolo-plan on", "tombolo-plan only.onnx "),
                ("tombolo-run serv", "tombolo-run server "),
                ("tombolo-run local --export-on", "tombolo-run local --export-onnx="),
                ("tombolo-opt --graph-find-blo", "tombolo-opt --graph-find-blocks "),
                ("tombolo-sim only.onnx --unfol", "tombolo-sim only.onnx --unfolded ")):
            with self.subTest(line):
                self.assertEqual(self.complete_in_zsh(line), completed)

    def test_zsh_functions_are_right_in_form(self):
        for command in PROGRAMS:
            subprocess.run(["zsh", "-n", SHARE / command[0] / "zsh" / "site-functions" /
                            f"_{command[0]}"], check=True, capture_output=True)



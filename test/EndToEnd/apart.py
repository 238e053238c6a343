"""Runs whose parts are started apart, as at real sites: a parameter server, and for each
site an agent with its ranks, with certificates, each in its own site of a laboratory."""

import json
import os
import signal
import subprocess
import threading
import time

import support

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORT = 7000


def seconds_of(process):
    """Of a core that a process that runs has used, by its number."""
    with open(f"/proc/{process}/stat") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Process:
    """A program at a site that writes events as lines of JSON to stdout. A thread notes when
    each has come, also in a file beside that of its errors, whose name ends in .out."""

    def __init__(self, command, errors):
        self.errors = errors
        with open(errors, "w") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=file,
                                            stdout=subprocess.PIPE, text=True)
        self.events = []  # (seconds of time.monotonic(), event)
        self.words = []  # lines that are no JSON
        self.is_read = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        with open(os.path.splitext(self.errors)[0] + ".out", "w") as file:
            self._read_into(file)
        with self.changed:
            self.is_read = True
            self.changed.notify_all()

    def _read_into(self, file):
        for line in self.process.stdout:
            now = time.monotonic()
            file.write(f"{now:.3f} {line}")
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            with self.changed:
                if isinstance(entry, dict):
                    self.events.append((now, entry))
                else:
                    self.words.append(line.strip())
                self.changed.notify_all()

    def wait_for(self, condition, seconds=120):
        """Until condition(self) holds, or the process ends; gives what it gives."""
        with self.changed:
            self.changed.wait_for(lambda: condition(self) or self.is_read, seconds)
            result = condition(self)
        if not result:
            raise AssertionError(f"{' '.join(self.process.args)}\nended, or did not do what was "
                                 f"waited for:\n{self.told()}")
        return result

    def told(self):
        with open(self.errors) as file:
            return "\n".join([*self.words, file.read()])

    def steps(self):
        """(seconds, metrics) of each inner step so far."""
        with self.changed:
            return [(when, entry) for when, entry in self.events if "event" not in entry]

    def of_kind(self, kind):
        with self.changed:
            return [entry for _, entry in self.events if entry.get("event") == kind]

    def seconds(self):
        """Of a core that it has used so far; it runs still."""
        return seconds_of(self.process.pid)

    def finish(self, seconds=240):
        """Waits for the end; gives the exit status."""
        self.process.wait(seconds)
        self.thread.join()
        return self.process.returncode

    def end(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        return self.finish()


class Job:
    """The parts of a run of `plan` over the sites of `lab`. `place(site)`: words before each
    command there, such as a choice of core."""

    def __init__(self, lab, plan, folder, place=lambda site: []):
        self.lab, self.plan, self.folder, self.place = lab, plan, folder, place
        self.certificates = os.path.join(folder, "certificates")
        self.processes, self.servers = [], []
        subprocess.run([os.path.join(ROOT, "utils/make-certs"), self.certificates, *lab.sites],
                       check=True, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.process.poll() is None:
                process.process.kill()
            process.finish()

    def _start(self, site, name, *words):
        certificate = os.path.join(self.certificates, "server" if words[0] == "server" else site)
        command = [*self.place(site), os.path.join(support.BIN, "tombolo-run"), *map(str, words),
                   "--run-id", "lab", "--cert", certificate + ".crt", "--key", certificate + ".key",
                   "--ca", os.path.join(self.certificates, "ca.crt")]
        process = Process(self.lab.command(site, *command),
                          os.path.join(self.folder, f"{name}-{len(self.processes)}.err"))
        self.processes.append(process)
        return process

    def server(self, site, *flags):
        process = self._start(site, f"server-{site}", "server", self.plan, "--address",
                              f"{self.lab.address(site)}:{PORT}", *flags)
        process.wait_for(lambda p: any(word.startswith("serving at") for word in p.words))
        self.servers.append(process)
        return process

    def agent(self, site, servers, *flags):
        """`servers`: the sites that have one, the primary first."""
        addresses = ",".join(f"{self.lab.address(server)}:{PORT}" for server in servers)
        return self._start(site, f"agent-{site}", "site", self.plan, "--site", site,
                           *(["--server", addresses] if servers else []), *flags)

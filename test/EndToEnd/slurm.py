"""A cluster of Slurm of one's own on loopback: munged, slurmctld and slurmd of Debian's packages,
with all their files in one folder. Needs root."""

import os
import shutil
import socket
import subprocess
import time

import support

_PROGRAMS = ["munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "squeue", "scontrol",
             "sinfo"]
_PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def why_not():
    """Why there can be none here; None where it can."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    lacking = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    return f"{', '.join(lacking)} missing: utils/install-dependencies" if lacking else None


class Cluster:
    """With `nodes` machines, all of which are this one, of `cpus` processors each."""

    def __init__(self, folder, nodes=1, cpus=4):
        self.folder, self.daemons = folder, []
        os.chmod(folder, 0o755)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.env.update(PATH=_PATH, SLURM_CONF=self.path("slurm.conf"))
        for name in ("munge", "state", *(f"spool-n{n}" for n in range(nodes))):
            os.mkdir(self.path(name), 0o755)
        with open(self.path("munge/key"), "wb") as file:
            file.write(os.urandom(1024))
        os.chmod(self.path("munge/key"), 0o600)
        controller, *ports = (support.free_port() for _ in range(1 + nodes))
        machine = socket.gethostname().partition(".")[0]
        with open(self.path("slurm.conf"), "w") as file:
            file.write(f"""\
ClusterName=tombolo
SlurmctldHost={machine}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={self.path("munge/socket")}
StateSaveLocation={self.path("state")}
SlurmdSpoolDir={self.path("spool-%n")}
SlurmctldPidFile={self.path("slurmctld.pid")}
SlurmdPidFile={self.path("slurmd-%n.pid")}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MinJobAge=3600
""")
            for n, port in enumerate(ports):
                file.write(f"NodeName=n{n} NodeHostname={machine} NodeAddr=127.0.0.1 Port={port} "
                           f"CPUs={cpus} State=UNKNOWN\n")
            file.write("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
        self.nodes = nodes

    def path(self, name):
        return os.path.join(self.folder, name)

    def __enter__(self):
        try:
            self._start("munged", "--foreground", "--force", "--key-file", self.path("munge/key"),
                        "--socket", self.path("munge/socket"), "--pid-file",
                        self.path("munge/pid"), "--seed-file", self.path("munge/seed"),
                        "--log-file", self.path("munge/log"))
            self._until(lambda: os.path.exists(self.path("munge/socket")), "munged")
            self._start("slurmctld", "-D", "-f", self.path("slurm.conf"), "-L", self.path("slurmctld.log"))
            for n in range(self.nodes):
                self._start("slurmd", "-D", "-f", self.path("slurm.conf"), "-N", f"n{n}", "-L",
                            self.path(f"slurmd-{n}.log"))
            self._until(lambda: self._idle() == self.nodes, "slurmctld and slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], env=self.env, check=False,
                       capture_output=True)
        subprocess.run(["scancel", "--user=root"], env=self.env, check=False, capture_output=True)
        end = time.monotonic() + 30
        while self.daemons and self._jobs() and time.monotonic() < end:
            time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, *words):
        with open(self.path(words[0] + ".err"), "a") as errors:
            self.daemons.append(subprocess.Popen(words, env=self.env, stdout=errors, stderr=errors,
                                                 stdin=subprocess.DEVNULL))

    def _until(self, condition, what):
        end = time.monotonic() + 60
        while not condition():
            died = [each.args[0] for each in self.daemons if each.poll() is not None]
            if died or time.monotonic() > end:
                raise AssertionError(f"{what} did not start: {died}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".log", ".err")):
                with open(self.path(name), errors="replace") as file:
                    text += f"--- {name}\n{file.read()[-3000:]}\n"
        return text

    def call(self, *words, timeout=60):
        result = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=timeout,
                                stdin=subprocess.DEVNULL, cwd=self.folder)
        if result.returncode != 0:
            raise AssertionError(f"{words}: {result.stderr}\n{self.logs()}")
        return result.stdout

    def _idle(self):
        result = subprocess.run(["sinfo", "-h", "-N", "-o", "%t"], env=self.env, capture_output=True,
                                text=True, timeout=60)
        return result.stdout.split().count("idle")

    def _jobs(self):
        result = subprocess.run(["squeue", "-h"], env=self.env, capture_output=True, text=True,
                                timeout=60)
        return result.stdout.strip()

    def submit(self, *words):
        """The number of a job."""
        return self.call("sbatch", "--parsable", *words).strip()

    def state(self, job):
        """Of a job, and its exit status."""
        text = self.call("scontrol", "show", "job", job)
        fields = dict(word.partition("=")[::2] for word in text.split())
        return fields["JobState"], fields["ExitCode"]

    def wait(self, job, states, seconds=240):
        """Until the job is in one of these states."""
        end = time.monotonic() + seconds
        while (state := self.state(job))[0] not in states:
            if time.monotonic() > end:
                raise AssertionError(f"job {job} is {state}, not {states}\n{self.logs()}")
            time.sleep(0.2)
        return state

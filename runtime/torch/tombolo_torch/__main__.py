"""`python3 -m tombolo_torch rank PLAN ...`: what `tombolo-run rank --executor torch` becomes
when it has validated the plan. The options are those of `tombolo-run rank`."""

import argparse
import json
import os
import signal
import sys
import traceback

from .errors import Error, PeerError, FAILED, MOST_MESSAGE, USAGE


def count(text):
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tombolo_torch", allow_abbrev=False,
        description="Runs one rank of an island with PyTorch. Start it as tombolo-run rank "
        "--executor torch, which validates the plan.")
    parser.add_argument("command", choices=["rank"])
    parser.add_argument("plan")
    parser.add_argument("--validated", required=True, metavar="CHECKSUM",
                        help="of the plan, as the C++ validator has accepted it")
    parser.add_argument("--contract", default="", metavar="DIGEST",
                        help="of the plan, where it has a server (docs/Server.md)")
    for name in ("model", "data"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("steps", "island", "rank"):
        parser.add_argument(f"--{name}", type=count, required=True)
    for name in ("init", "shuffle", "resume-step", "pause-at", "local-rank"):
        parser.add_argument(f"--{name}", type=count)
    for name in ("checkpoint-every", "seed", "eval-every", "incarnation", "threads"):
        parser.add_argument(f"--{name}", type=count, default=0)
    for name in ("checkpoint-dir", "checkpoint-copy", "eval-data", "rendezvous", "server", "run-id", "cert", "key",
                 "ca", "backend"):
        parser.add_argument(f"--{name}", default="")
    for name in ("resume", "pin", "check-numerics", "plaintext", "await-server"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--line-limit", type=float, action="append", default=[],
                        help="bytes per second that pushes to a server may send, of each in order; 0: any")
    parser.add_argument("--token-bytes", type=int, choices=[2, 4], default=2)
    parser.add_argument("--timeout-seconds", type=float, default=600.0)
    parser.add_argument("--stall-seconds", type=float)  # native ranks' alone
    parser.add_argument("--sigterm", choices=["end-run", "leave-run"], default="end-run")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--events-fd", type=int, default=-1)
    return parser.parse_args(arguments)


def tls_files(options):
    files = (options.cert, options.key, options.ca)
    if any(files) if options.plaintext else not all(files):
        raise Error("--cert, --key and --ca: expected all three, or --plaintext where everything "
                    "is on this machine", USAGE)
    return None if options.plaintext else files


def train(options, tell, told):
    if options.check_numerics:
        raise Error("--check-numerics: the torch executor does not look at every op; train with "
                    "--executor native to learn which op made a loss not finite")
    options.tls = tls_files(options) if options.server else None
    try:
        validated = bytes.fromhex(options.validated)
    except ValueError:
        raise Error(f"--validated: expected a checksum, got '{options.validated}'", USAGE)
    try:
        options.contract = bytes.fromhex(options.contract)
    except ValueError:
        raise Error(f"--contract: expected a digest, got '{options.contract}'", USAGE)
    try:  # PyTorch takes a second
        from .planfile import read_plan
        from .rank import Rank
    except ImportError as error:
        raise Error(f"the torch executor: {sys.executable} cannot import what it needs "
                    f"({error}); install PyTorch, protobuf and grpcio for it (Debian: "
                    "python3-torch, python3-protobuf, python3-grpcio), or give another "
                    "interpreter as TOMBOLO_PYTHON")
    Rank(read_plan(options.plan, validated), options, tell, told).run()


def main(arguments):
    options = parse(arguments)
    was_told = []
    if options.checkpoint_dir and options.sigterm == "end-run":
        # Every rank: whoever ends a run tells whole groups of processes.
        signal.signal(signal.SIGTERM, lambda number, frame: was_told.append(number))
    to_person = options.events_fd < 0

    def tell(event):
        data = (json.dumps(event) + "\n").encode()
        try:
            while data:
                data = data[os.write(1 if to_person else options.events_fd, data):]
        except OSError:
            pass  # whoever listened has gone; the agent's end ends this rank
    try:
        train(options, tell, lambda: bool(was_told))
        return 0
    except Error as error:
        failure = error
    except MemoryError:
        failure = Error("out of memory", FAILED)
    except Exception as error:
        failure = Error(f"{type(error).__name__}: {error}", FAILED)
        if os.environ.get("TOMBOLO_TRACEBACK"):
            traceback.print_exc()
    if to_person:
        print(f"tombolo-run rank: error: {failure}", file=sys.stderr)
    else:
        tell({"event": "error", "status": failure.status, "peer": isinstance(failure, PeerError),
              "message": str(failure)[:MOST_MESSAGE]})
    return failure.status


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: threads may hang for a lost peer, and gRPC takes its time to end.
    os._exit(status)

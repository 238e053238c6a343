"""Finds and runs Tombolo's programs."""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading
import types
import warnings
from dataclasses import dataclass
from typing import IO, Any

from ._errors import ProgramNotFound, ProgramWarning, TomboloError, failure

_MOST_BYTES_SHOWN = 1 << 20
# Progress is a table that is drawn over: so many lines up, and erased.
_UP = re.compile(rb"\x1b\[(\d+)F\x1b\[J")
_ESCAPE = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")


def find(name: str) -> str:
    """The path of a program."""
    folder = os.environ.get("TOMBOLO_BIN")
    path = shutil.which(name, path=folder or None)
    if path:
        return path
    where = f"in TOMBOLO_BIN={folder}" if folder else "on PATH"
    raise ProgramNotFound(
        f"{name} not found {where}; install Tombolo's programs (in a checkout: utils/build "
        "release && cmake --install build/release), or set TOMBOLO_BIN to the folder "
        "that has them, like build/release/bin")


@dataclass(frozen=True)
class Finished:
    stdout: str
    interrupted: bool  # Ctrl-C, after which the program nevertheless did what it was to do


def execute(name: str, arguments: collections.abc.Sequence[str], *, progress: bool = False,
            interrupt: signal.Signals = signal.SIGINT) -> Finished:
    """Runs a program to its end; a status that is not 0 is an exception with what it said.

    With `progress` what it says on stderr is seen as it comes when that is a terminal. Ctrl-C
    sends `interrupt` to the program and waits for it, and the second and each further one sends
    SIGINT; SIGTERM to this process goes on to the program, and ends this process after it.
    """
    command = [find(name), *arguments]
    shown = sys.stderr if progress and _is_terminal(sys.stderr) else None
    source, stderr = _terminal_like(shown) if shown else os.pipe()
    with _HandedOn(interrupt) as signals:
        try:
            # In a session of its own: a terminal's Ctrl-C comes here only, and is handed on.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=stderr, start_new_session=True)
        except OSError as error:
            os.close(source)
            raise TomboloError(f"{command[0]}: cannot be started: {error.strerror}") from None
        finally:
            os.close(stderr)
        assert process.stdout is not None
        try:
            signals.to(process)
            printed = _Reader(process.stdout.fileno())
            said = _Reader(source, shown)
            process.wait()
        finally:  # also when somebody else's handler of a signal has raised an exception
            if process.poll() is None:
                process.kill()
                process.wait()
        printed.join()
        said.join()
        process.stdout.close()
        os.close(source)
    if signal.SIGTERM in signals.received:
        os.kill(os.getpid(), signal.SIGTERM)  # to whom it was sent, as if we had not been here
    interrupted = signal.SIGINT in signals.received
    message = said.text()
    if process.returncode != 0:
        if interrupted:
            raise KeyboardInterrupt(message)
        raise failure(message or f"{name}: {_how_it_ended(process.returncode)}",
                      process.returncode)
    if message and not shown:
        warnings.warn(message, ProgramWarning, stacklevel=3)
    return Finished(printed.text(), interrupted)


class _HandedOn:
    """SIGINT and SIGTERM for a program instead of this process, unless somebody else handles
    them or they come to another thread. Handlers, and no exceptions: those can come anywhere."""

    def __init__(self, interrupt: signal.Signals) -> None:
        self.received: list[signal.Signals] = []
        self._interrupt = interrupt
        self._sent = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _HandedOn:
        if threading.current_thread() is threading.main_thread():
            for number, usual in ((signal.SIGINT, signal.default_int_handler),
                                  (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """Whom they go to, also those that have come already."""
        self._process = process
        self._send()

    def _handle(self, number: int, at: types.FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        self._send()

    def _send(self) -> None:
        while self._process and self._sent < len(self.received):
            number = self.received[self._sent]
            first = number not in self.received[:self._sent]
            self._sent += 1
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(
                    self._interrupt if number == signal.SIGINT and first else number)


def words(options: collections.abc.Mapping[str, Any]) -> list[str]:
    """Keyword arguments as a command line: `lr_schedule="cosine"` is `--lr-schedule cosine`."""
    line = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            line.append(option)
            continue
        if isinstance(value, collections.abc.Mapping):
            value = [f"{key}={one}" for key, one in value.items()]
        for one in value if isinstance(value, (list, tuple)) else [value]:
            # One word: a value may begin with a dash.
            line.append(f"{option}={os.fspath(one) if isinstance(one, os.PathLike) else one}")
    return line


def operand(path: str | os.PathLike[str]) -> str:
    """A file as an argument, also one whose name looks like an option."""
    text = os.fspath(path)
    return "./" + text if text.startswith("-") else text


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and os.isatty(stream.fileno())
    except (OSError, ValueError):  # a notebook's stream has no file
        return False


def _terminal_like(stream: IO[str]) -> tuple[int, int]:
    """A terminal as wide as the stream's: what is written to the second comes out of the first."""
    ours, theirs = pty.openpty()
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    return ours, theirs


class _Reader(threading.Thread):
    """Collects what comes out of a pipe or a terminal, and shows it on the way."""

    def __init__(self, source: int, shown: IO[str] | None = None) -> None:
        super().__init__(daemon=True)
        self._source, self._shown, self._data = source, shown, b""
        self.start()

    def run(self) -> None:
        while True:
            try:
                data = os.read(self._source, 1 << 16)
            except OSError:  # a terminal whose other side is closed
                return
            if not data:
                return
            self._data += data
            if self._shown:
                if len(self._data) > _MOST_BYTES_SHOWN:  # after hours of progress
                    self._data = _left(self._data)[-_MOST_BYTES_SHOWN // 2:]
                with contextlib.suppress(OSError, ValueError):
                    os.write(self._shown.fileno(), data)

    def text(self) -> str:
        """As one sees it in the end; of an error without the table before it."""
        text = _ESCAPE.sub(b"", _left(self._data)).decode("utf-8", "replace").strip()
        error = re.search(r"^.*: error: ", text, re.MULTILINE) if self._shown else None
        return text[error.start():] if error else text


def _left(data: bytes) -> bytes:
    """Without what has been drawn over."""
    text, *rest = _UP.split(data.replace(b"\r\n", b"\n"))
    for lines, then in zip(rest[::2], rest[1::2]):
        kept = text.split(b"\n")
        text = b"\n".join(kept[:max(0, len(kept) - 1 - int(lines))] + [then])
    return text


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"killed by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status} and said nothing"

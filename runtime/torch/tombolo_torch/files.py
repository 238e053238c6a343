"""Reading and writing files: nothing half-written is ever in place."""

import hashlib
import mmap
import os
import stat

from .errors import Error


class InputFile:
    """A regular file; reads beyond its end are errors."""

    def __init__(self, path):
        self.path = path
        try:
            self.file = open(path, "rb")
        except OSError as error:
            raise Error(f"'{path}': cannot open: {error.strerror}")
        status = os.fstat(self.file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Error(f"'{path}': expected a regular file")
        self.size = status.st_size

    def read(self, offset, count):
        if offset > self.size or count > self.size - offset:
            raise Error(f"'{self.path}': expected {count} bytes at {offset}, "
                        f"the file has {self.size}")
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            got = os.preadv(self.file.fileno(), [view[done:]], offset + done)
            if got == 0:
                raise Error(f"'{self.path}': the file ends at {offset + done} while it is read")
            done += got
        return data

    def map(self):
        """All of it, read from the file as it is looked at; writes would stay here."""
        if self.size == 0:
            return b""
        return mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)


def read_file(path, limit):
    file = InputFile(path)
    if file.size > limit:
        raise Error(f"'{path}': expected at most {limit} bytes, the file has {file.size}")
    return bytes(file.read(0, file.size))


def sync_folder(path):
    """Makes what a folder lists durable, where the file system can."""
    folder = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != 22:  # EINVAL: nothing to sync for a folder
            raise Error(f"'{path}': cannot sync: {error.strerror}")
    finally:
        os.close(folder)


class OutputFile:
    """Written aside; `commit` puts it in place when it is durable."""

    def __init__(self, path):
        self.path, self.aside = path, f"{path}.tmp-{os.getpid()}"
        if os.path.exists(path) and not os.path.isfile(path):
            raise Error(f"'{path}': expected a regular file to write")
        try:
            self.file = open(self.aside, "wb")
        except OSError as error:
            raise Error(f"'{path}': cannot create: {error.strerror}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.file.close()
        if self.aside and os.path.exists(self.aside):
            os.unlink(self.aside)

    def write(self, data):
        try:
            self.file.write(data)
        except OSError as error:
            raise Error(f"'{self.path}': cannot write: {error.strerror}")

    @property
    def written(self):
        return self.file.tell()

    def commit(self):
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            os.rename(self.aside, self.path)
        except OSError as error:
            raise Error(f"'{self.path}': cannot write: {error.strerror}")
        sync_folder(os.path.dirname(self.path))


def write_file(path, data):
    with OutputFile(path) as out:
        out.write(data)
        out.commit()


def sha256(data):
    return hashlib.sha256(data).digest()

"""A run that is broken ten times (soak.py; benchmarks/soak.py does it for as long as one likes).
Needs root; reported as skipped without."""

import hashlib
import os
import struct
import unittest

import distance
import server_log
import soak
import support


def write_records(path, records):
    """As server_log.records reads them."""
    with open(path, "wb") as file:
        for kind, head, body in records:
            words = server_log.MAGIC + struct.pack("<QQQQ", kind, len(head), len(body), 0)
            file.write(words + hashlib.sha256(words + head + body).digest())
            for part in (head, body):
                file.write(part + bytes(-len(part) % 8))


class Soak(support.TomboloTest):
    @classmethod
    def setUpClass(cls):
        if reason := distance.why_not():
            raise unittest.SkipTest(reason)

    def test_ten_faults(self):
        run = soak.Soak(self, seed=1, tell=print)
        run.run(10)
        self.check_that_faults_are_found(run)

    def check_that_faults_are_found(self, run):
        """In the first server's first log, each change of which makes a lie of it."""
        path = os.path.join(run.kept_folder("north", 0), "log-0")
        good = list(server_log.records(path))
        folder = self.path("changed")
        os.mkdir(folder)

        def history(change):
            records = list(good)
            change(records)
            write_records(os.path.join(folder, "log-0"), records)
            return server_log.ServerLog(folder, run.tensors)

        whole = history(lambda records: None)
        versions = {key: made.hash for key, made in whole.histories[0].items()}
        told = [(*key, digest) for key, digest in versions.items()]
        server_log.check_history(told, [whole])
        last = max(i for i, (kind, _, _) in enumerate(good) if kind == server_log.VERSION)
        push = max(i for i, (kind, _, _) in enumerate(good[:last]) if kind == server_log.PUSH)

        def flip_update(records):
            kind, head, body = records[last]
            records[last] = kind, head, body[:-1] + bytes([body[-1] ^ 1])

        def move_push(records):
            kind, head, body = records[push]
            message = server_log.wire.LogPush.FromString(head)
            message.header.inner_steps *= 1000
            records[push] = kind, message.SerializeToString(), body

        for change in (lambda records: records.pop(push), flip_update, move_push,
                       lambda records: records.insert(push, records[push])):
            with self.assertRaises(server_log.Damage):
                server_log.check_history(told, [history(change)])
        with self.assertRaises(server_log.Damage):
            server_log.check_history([*told, (*told[0][:2], "another")], [whole])


if __name__ == "__main__":
    unittest.main()

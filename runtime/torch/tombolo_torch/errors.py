"""What goes wrong, with the exit status that it has (runtime/Error.h)."""

BAD_INPUT, USAGE, FAILED = 1, 2, 3
MOST_MESSAGE = 3000  # characters that are told: a line stays below a pipe's atomic size


class Error(Exception):
    """Bad input, unless another status is given."""

    def __init__(self, message, status=BAD_INPUT):
        super().__init__(message)
        self.status = status


class PeerError(Error):
    """What went wrong first was elsewhere: a peer is lost, or told of it."""

    def __init__(self, message):
        super().__init__(message, FAILED)

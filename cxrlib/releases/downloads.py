"""Downloads that end at a bound: a server that never stops sending fills no disk."""

import pooch

from cxrlib.base import bounded

TABLE_BYTES = 2 * 2**30  # the largest published table has some hundred megabytes

LIST_BYTES = 2**20  # of a release's list of models


class _AtMost:
    """A file that raises `bounded.TooLargeError` once more than so many bytes are written to it."""

    def __init__(self, file, most_bytes):
        self._file, self._left, self._most = file, most_bytes, most_bytes

    def write(self, data):
        self._left -= len(data)
        if self._left < 0:
            raise bounded.TooLargeError(f"it has more than {bounded.size_text(self._most)}")
        return self._file.write(data)

    def flush(self):
        self._file.flush()


def at_most(most_bytes):
    """Return a downloader for `pooch.retrieve` that stops after so many bytes.

    Parameters
    ----------
    most_bytes : int

    Returns
    -------
    Callable
        Takes `address, output_file, pooch`; raises `bounded.TooLargeError` where there are more, and what
        `pooch.HTTPDownloader` raises. What was written until then is pooch's temporary file, which it removes.
    """

    def download(address, output_file, known):
        with open(output_file, "wb") as file:
            pooch.HTTPDownloader()(address, _AtMost(file, most_bytes), known)

    return download

"""A store of which one file ends the process that opens it, as a damaged footer may."""

from __future__ import annotations

import os
import signal

from pyiceberg.io import InputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

DEADLY = "deadly"


class DeadlyIO(PyArrowFileIO):
    """Opened by its name (`py-io-impl`); the property `deadly` is the end of the path."""

    def new_input(self, location: str) -> InputFile:
        """As ever, but for that file."""
        if location.endswith(self.properties[DEADLY]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().new_input(location)

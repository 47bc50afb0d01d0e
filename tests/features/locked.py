"""A folder that cannot be written, also when the tests run as root."""

import os
from pathlib import Path


def lock(folder: Path) -> None:
    """Take away the leave to write in the folder; root, whom that does not stop, becomes nobody until the fixture `locked_folder` ends."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)

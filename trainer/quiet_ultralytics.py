"""Switches off Ultralytics' network access. Import this module before any module of `ultralytics`.

By default Ultralytics checks for updates, sends usage events, installs packages, and writes a settings file into the
home folder when it is imported.
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("YOLO_AUTOINSTALL", "0")
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / f"identity-registry-yolo-{os.getuid()}"))
Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)

from ultralytics.utils import SETTINGS  # noqa: E402

SETTINGS.update({"sync": False})

#!/usr/bin/env bash
# opencv-python draws windows and so needs libGL and libgthread, which a bare server lacks. Root gets them installed;
# anyone else gets the headless wheel of the same version, which is the same library without windows.
set -euo pipefail
python=$1
"$python" -c 'import cv2' 2>/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo 'installing libgl1 and libglib2.0-0 for OpenCV'
  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libgl1 libglib2.0-0 >/dev/null \
    && "$python" -c 'import cv2' 2>/dev/null; then exit 0; fi
fi
echo 'putting opencv-python-headless in the place of opencv-python'
version=$("$python" -c 'from importlib.metadata import version; print(version("opencv-python"))')
"$python" -m pip uninstall --quiet --yes opencv-python
"$python" -m pip install --quiet --no-deps "opencv-python-headless==$version"
"$python" -c 'import cv2'

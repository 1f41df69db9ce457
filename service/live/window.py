"""Shows frames in a window of the desktop."""

from service.errors import StartupError
from service.vision.image import Pixels

TITLE = "identity registry: q quits"


class Window:
    """A window. It closes with `q`, Escape or its close button.

    Raises:
        StartupError: Python has no Tk, or there is no screen.
    """

    def __init__(self) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise StartupError("Python has no Tk; on Debian: apt-get install python3-tk. Or omit --window") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise StartupError(f"no window can be opened ({error}); omit --window") from error
        self.is_open = True
        self._root.title(TITLE)
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, self._close)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()

    def show(self, pixels: Pixels) -> None:
        """Shows a picture, (height, width, 3) RGB, and processes the user's input."""
        from PIL import Image, ImageTk

        self._picture = ImageTk.PhotoImage(Image.fromarray(pixels), master=self._root)  # Tk keeps no reference
        self._label.configure(image=self._picture)
        self._root.update()

    def close(self) -> None:
        self._root.destroy()

    def _close(self, _: object = None) -> None:
        self.is_open = False

"""`python -m trainer`: trains the face detector and the face embedder and packs them into bundles."""

import typer

from trainer.detector.commands import app as detector
from trainer.embedder import commands as embedder

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help=__doc__)
app.add_typer(detector, name="detector")
for command in (embedder.prepare, embedder.train, embedder.evaluate, embedder.calibrate, embedder.export):
    app.command()(command)

if __name__ == "__main__":
    app()

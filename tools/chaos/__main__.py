"""`make chaos`: kills the service's processes under load and checks that nothing that it acknowledged is lost."""

import random
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tools.chaos.installation import KINDS, Installation
from tools.chaos.report import Report
from tools.chaos.run import Options, run

CONSOLE = Console(width=150)
MAX_SEED = 2**31
DESCRIPTION = """
Runs the real processes of the service (API, inference worker, job runner, PostgreSQL) in a temporary folder. Clients
register, erase, merge, correct, search and verify, start bulk enrolments and migrate a collection between two models,
while this tool kills random processes with SIGKILL and starts them again. After each phase it compares the database
with every response that the clients have received. Exits with status 1 if anything differs.

make chaos: 100 kills with each kind of database, about 12 minutes

make chaos KILLS=10 SEED=7: a short run

python -m tools.chaos --database external --kills 500 --keep-folder: one kind of database; the logs remain

A seed determines the load and the victims, but not the timing of the processes: a violation may need several runs.
"""


def main(
    database: Annotated[str, typer.Option(help="embedded, external or both.")] = "both",
    kills: Annotated[int, typer.Option(min=1, help="Number of kills with each kind of database.")] = 100,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time limit for each kind of database.")] = 600.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the load and the victims. Default: a random one.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Number of clients that send embeddings.")] = 4,
    phase_kills: Annotated[int, typer.Option(min=1, help="Kills between two checks.")] = 40,
    keep_folder: Annotated[bool, typer.Option(help="Keep the folder with logs and database.")] = False,
) -> None:
    if database not in (*KINDS, "both"):
        raise typer.BadParameter("--database must be embedded, external or both")
    seed = random.randrange(MAX_SEED) if seed is None else seed  # noqa: S311
    CONSOLE.print(f"seed {seed}")
    failed = False
    for kind in KINDS if database == "both" else (database,):
        folder = Path(tempfile.mkdtemp(prefix="ir-chaos-"))
        folder.chmod(0o711)  # Started by root, PostgreSQL runs under another account, which must be able to enter.
        report = Report(kind)
        try:
            options = Options(kills, minutes, clients, phase_kills)
            run(Installation(kind, folder), report, random.Random(f"{seed} {kind}"), options, CONSOLE)  # noqa: S311
        finally:
            report.print(CONSOLE)
            if keep_folder or report.violations:
                CONSOLE.print(f"logs and database: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        failed |= bool(report.violations)
    if failed:
        CONSOLE.print(f"The data is inconsistent. Repeat with --seed {seed}.", style="red")
        raise typer.Exit(1)


main.__doc__ = DESCRIPTION


if __name__ == "__main__":
    typer.run(main)

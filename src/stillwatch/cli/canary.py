"""canary: `stillwatch canary`: texts to let out, committed to before, looked for by `audit --canaries`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from stillwatch.errors import InputError

HELP = "Make texts that prove copying, and commit to them before they leave."


def issue(
    label: Annotated[str, typer.Argument(help="A name for the batch; another label gives other canaries.")],
    n: Annotated[int, typer.Option(help="Canaries, to be let out.")] = 20,
    decoys: Annotated[int, typer.Option(help="Decoys, which never leave; the smallest p is 1 in this and n.")] = 980,
    out: Annotated[Path, typer.Option(help="File to write: secret, mode 0600.")] = Path("canaries.json"),
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the commitment as JSON on standard output.")] = False,
) -> None:
    """Make canaries and decoys, write them to a file and their hash to the journal.

    \b
    Examples:
      stillwatch canary issue spring --out canaries.json
      stillwatch audit data/train.jsonl --canaries canaries.json
    """
    from stillwatch.audit.canary import commit
    from stillwatch.audit.canary import issue as make
    from stillwatch.home import Home

    home = Home.of()
    batch = make(label, n=n, n_decoys=decoys, key=home.root_key(key_file))
    try:
        with open(out, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(batch.to_json())
    except FileExistsError:
        raise InputError(f"{out} is there already", do="Name another --out; nothing was changed") from None
    receipt = commit(batch, home.journal, ts=datetime.now(UTC))
    says = {"commitment": batch.commitment(), "receipt": receipt, "out": str(out), "n": n, "decoys": decoys}
    if json_:
        typer.echo(json.dumps(says, indent=2, sort_keys=True))
        return
    typer.echo(f"{n} canaries and {decoys} decoys of {label} in {out}. Let out the canaries only.")
    typer.echo(f"Commitment  {batch.commitment()}\nReceipt     {receipt}\nKeep both elsewhere too.")


VERBS: tuple[Callable[..., None], ...] = (issue,)

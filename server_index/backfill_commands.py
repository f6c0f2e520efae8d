"""The command line of other spaces: whose queries an index answers, and bringing it into one."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from server_index.index_options import KindOption, read_kind

_Index = Annotated[Path, typer.Argument(help="Index folder.")]
_Compatibility = Annotated[
    Path, typer.Argument(help="Folder that train-compatible wrote: a new encoder, or a map.")
]


def accept(
    index: _Index,
    compatibility: _Compatibility,
    report: Annotated[
        Path | None, typer.Option(help="JSON of compat-matrix that shows it; kept with the index.")
    ] = None,
) -> None:
    """Have an index answer queries of another space; nothing else is ever answered."""
    require_extra("server", "index accept")
    from server_index.acceptance import read_evidence
    from server_index.next_layer import accept_space
    from server_index.writer import IndexWriter

    with IndexWriter(index) as writer:
        evidence = read_evidence(report, compatibility) if report else {}
        space = accept_space(writer, compatibility, evidence)
        print(f"{index}: in space {writer.state.space.id}, answers queries of {space} from now on")


def refuse(index: _Index, space: Annotated[str, typer.Argument(help="Id of the space.")]) -> None:
    """Have an index answer queries of another space no more."""
    require_extra("server", "index refuse")
    from server_index.next_layer import refuse_space
    from server_index.writer import IndexWriter

    with IndexWriter(index) as writer:
        refuse_space(writer, space)
        print(f"{index}: does not answer queries of {space} any more")


def backfill(
    index: _Index,
    compatibility: _Compatibility,
    encoder: Annotated[
        Path | None,
        typer.Option(help="New database encoder: checkpoint folder, encoder file or bundle."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Where the images are, as build-index took them.  [default: their paths]"
        ),
    ] = None,
    order: Annotated[
        str, typer.Option(help="What comes first: margin, doubt, traffic or random.")
    ] = "margin",
    traffic: Annotated[
        Path | None, typer.Option(help="CSV of id and count: how often queries met each item.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="Encode so many items now; the next run goes on.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Most images a second; 0 for no limit.")] = 0.0,
    precision: Annotated[str, typer.Option(help="Of a checkpoint: auto, fp32 or bf16.")] = "auto",
    averaging: Annotated[
        str, typer.Option("--average", help="Looks at each image: none, flip (2) or crops (7).")
    ] = "none",
    kind: KindOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the random order.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
    finish: Annotated[bool, typer.Option(help="Switch to the new space when all is in it.")] = True,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Drop the new vectors; the index is as it was.")
    ] = False,
) -> None:
    """Bring an index into a new space, item by item, while it is searched. Killed, it goes on."""
    require_extra("server", "backfill")
    from encoder.progress import report_set_aside, track
    from server_index.acceptance import expect_recall
    from server_index.arrange import retune
    from server_index.averaging import read_averaging
    from server_index.backfill import (
        Backfill,
        begin_backfill,
        check_backfill,
        count_missing,
        finish_backfill,
        run_backfill,
    )
    from server_index.backfill_order import check_order, read_counts
    from server_index.choose import Targets
    from server_index.encode import open_encoder
    from server_index.next_layer import give_up_layer
    from server_index.source import read_entries
    from server_index.writer import IndexWriter

    if most is not None and most < 1:
        raise PocketlensError(f"--most {most} must be at least 1")
    if not 0 <= rate < float("inf"):
        raise PocketlensError(f"--rate {rate} must not be negative")
    if traffic and order != "traffic":
        raise PocketlensError("--traffic has no meaning without --order traffic")
    if str(source) == "-":
        raise PocketlensError("--source - cannot be read more than once; give a file of paths")
    counts = read_counts(traffic) if traffic else None
    wanted, looks = read_kind(kind), read_averaging(averaging)
    plan = Backfill(check_order(order), seed=seed, most=most, rate=rate, counts=counts)
    with IndexWriter(index) as writer:
        if give_up:
            give_up_layer(writer)
            print(f"{index}: as it was, in space {writer.state.space.id}")
            return
        if encoder is None:
            raise PocketlensError("--encoder is needed: the new database encoder")
        opened = open_encoder(encoder, precision=precision, averaging=looks)
        found = check_backfill(writer, compatibility, opened, plan)
        if dry_run:
            missing, total = count_missing(writer, found, opened.encoder)
            print(f"{index}: {missing} of {total} items would be encoded anew, by {order}")
            return
        begin_backfill(writer, compatibility, found)
        missing, total = count_missing(writer, found, opened.encoder)
        with track("encoding anew", min(missing, most or missing)) as advance:
            entries = (lambda: read_entries(source)) if source else None
            progress = run_backfill(writer, found, opened, plan, entries=entries, advance=advance)
        report_set_aside(progress.set_aside)
        print(f"{index}: {progress.done} of {progress.items} items ({progress.share:.1%}) are new")
        evidence = {each.space: each.evidence for each in writer.state.accepts}
        shown = expect_recall(evidence.get(found.query.id, {}), order, progress.share)
        if shown is not None:
            print(f"at this share the report that was accepted shows R@1 {shown:.1f}")
        if progress.done == progress.items and finish:
            finish_backfill(writer, found, opened.encoder, kind=wanted)
            for line in retune(writer, Targets()):
                print(line)
            print(f"{index}: in space {writer.state.space.id} now, {writer.state.kind.spec}")
        elif progress.done < progress.items and finish and most is None:
            print("the others could not be read: delete them, or give --source, and run it again")

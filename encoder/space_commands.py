"""The command line of spaces: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Overwrite
from encoder.training_options import Output, check_outputs, divide_known, report_checkpoint


def rotate_space(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder of the encoder to turn.")],
    output: Output,
    data: Annotated[
        Path | None, typer.Option(help="Images to learn the rotation from; labels are not used.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Turned checkpoint whose rotation to take over.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a space so that prefixes of its vectors serve alone; cosines do not change."""
    require_extra("train", "rotate-space")
    if (data is None) == (like is None):
        raise PocketlensError("give --data to learn a rotation, or --like to follow one")
    check_outputs(output, checkpoint, data, like, overwrite=overwrite)
    from encoder.checkpoint import load_checkpoint
    from encoder.rotation import follow_rotation, share_kept
    from encoder.rotation import rotate_space as run

    loaded = load_checkpoint(checkpoint)
    if like is not None:
        turned = follow_rotation(loaded, like, output, overwrite=overwrite)
        report_checkpoint(output, turned, ())
    else:
        assert data is not None
        table = divide_known(data, loaded)
        turned, vectors, quarantined = run(loaded, table, output, overwrite=overwrite)
        dim = loaded.space.dim
        for prefix, share in share_kept(vectors, (dim // 8, dim // 4, dim // 2)).items():
            print(f"the first {prefix} of {dim} components hold {100 * share:.1f} %")
        report_checkpoint(output, turned, quarantined)
    print(f"turned from space {loaded.space.id}")
    for prefix in loaded.provenance.get("recipe", {}).get("nested", ()):
        print(f"the first {prefix} components are no longer those that were taught to serve alone")

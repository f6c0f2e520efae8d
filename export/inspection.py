"""Say in words what a bundle or an encoder file is."""

from pathlib import Path

from encoder.wording import counted
from export.card import Card
from export.runtime import QueryEncoder


def describe_bundle(folder: Path) -> str:
    """Return a line for what holds for all, and one for each encoder file.

    Raises:
        PocketlensError: when the card is missing or damaged.
    """
    card = Card.read(folder)
    space = card.value.get("space", {})
    lines = [
        f"{folder}: {counted(len(card.encoders), 'encoder')} of space {space.get('id')}, "
        f"{space.get('dim')}-d"
    ]
    width = max(len(str(entry["file"])) for entry in card.encoders)
    for entry in card.encoders:
        alignment = entry.get("alignment")
        near = f", cosine to the teacher {alignment['mean_cosine']:.3f}" if alignment else ""
        lines.append(
            f"  {entry['file']:<{width}}  {entry['role']}, {entry['size']} px, "
            f"{entry['precision']}, {entry['input']} in, {entry['dim']}-d {entry['form']} out, "
            f"{entry['bytes'] / 1e6:.1f} MB, opset {entry['opset']}, "
            f"encoder {entry['encoder']}{near}"
        )
    return "\n".join(lines)


def describe_file(file: Path) -> str:
    """Return what an encoder file says of itself.

    Raises:
        PocketlensError: when it is not an encoder of ours.
    """
    contract = QueryEncoder(file, threads=1).contract
    value = contract.to_json()
    shown = (
        f"{place} {value[place]['name']}: {value[place]['type']} "
        f"[{', '.join(map(str, value[place]['shape']))}]"
        for place in ("input", "output")
    )
    preprocess = contract.preprocess
    return "\n".join(
        [
            f"{file}: {contract.role}, {preprocess.size} px, {contract.precision}",
            f"  space {contract.space.id}, {contract.space.dim}-d; encoder {contract.encoder}",
            *(f"  {line}" for line in shown),
            f"  {preprocess.fit} to the square, crop {preprocess.crop:g}, "
            f"{preprocess.interpolation}",
        ]
    )

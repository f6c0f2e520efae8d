"""The query bundle: a folder of encoder files of one space, and the card that describes them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from encoder.array_files import write_array
from encoder.atomic import new_folder, write_json
from encoder.checkpoint import Alignment, Checkpoint
from encoder.errors import PocketlensError
from encoder.images import Source
from encoder.preprocess import Pixels, prepare
from encoder.progress import track
from encoder.space import require_same_space
from export.card import CARD, Listed
from export.contract import FORMAT, Contract, make_probe
from export.gate import GateReport, embed_exactly
from export.golden import make_golden_images, write_golden_images
from export.graph import build_model, export_network, to_bytes
from export.int8 import Quantisation, digest_int8, make_int8
from export.ort_format import write_ort
from export.parity import (
    MIN_COSINE_OF_FORM,
    Parity,
    embed_reference,
    gather_pictures,
    measure_parity,
)
from export.runtime import QueryEncoder
from export.variants import Variant

GOLDEN = "golden"
# Another runtime's vectors of the golden pictures may be so far from ours: it rounds otherwise,
# and decodes large JPEGs whole (`encoder.images` chooses the scale so that this is allowed).
TOLERANCE: dict[str, float] = {"fp32": 0.999, "fp16": 0.999, "int8": 0.99}


@dataclasses.dataclass(frozen=True)
class Exported:
    """Name an encoder file written and what was measured of it."""

    file: Path
    contract: Contract
    opset: int
    parity: Parity
    gate: GateReport | None = None


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Hold what was written, and why some of the user's pictures were set aside."""

    encoders: tuple[Exported, ...]
    quarantined: tuple[str, ...] = ()


def export_bundle(
    variants: Sequence[Variant],
    output: Path,
    *,
    files: Sequence[Source] = (),
    teacher: Checkpoint | None = None,
    quantisation: Quantisation | None = None,
    with_ort: bool = False,
    overwrite: bool = False,
) -> Bundle:
    """Export encoders to a bundle folder once each graph agrees with PyTorch.

    Compared on pictures the package makes and on `files`. With `teacher` the alignment is
    measured on `files`, and its vectors of the golden pictures are kept; else a checkpoint's own
    alignment is passed on. `with_ort` writes each encoder in ORT format too.

    Raises:
        PocketlensError: when a graph differs (nothing is then written), the teacher is of
            another space or has no pictures to be compared on, or the output must not be replaced.
    """
    if teacher is not None:
        for variant in variants:
            require_same_space(variant.checkpoint.space, teacher.space, what="the checkpoint")
    own_pictures, quarantined = gather_pictures(
        files, max((v.checkpoint.preprocess for v in variants), key=lambda each: each.size)
    )
    if teacher is not None and not own_pictures:
        raise PocketlensError("--teacher needs --images: pictures to show the alignment on")
    if quantisation is None and any(variant.precision == "int8" for variant in variants):
        raise PocketlensError("int8 needs --data: images to calibrate and judge it on")
    alignments = {
        each.encoder: _align(each, teacher, own_pictures) if teacher else each.alignment
        for each in {v.checkpoint.encoder: v.checkpoint for v in variants}.values()
    }
    pictures = make_golden_images() | own_pictures
    built: list[tuple[Exported, bytes]] = []
    networks: dict[str, onnx.ModelProto] = {}
    in_int8: dict[str, tuple[onnx.ModelProto, GateReport]] = {}
    with track("exporting", len(variants)) as advance:
        for variant in variants:
            checkpoint = variant.checkpoint
            key = checkpoint.encoder
            if key not in networks:
                networks[key] = export_network(checkpoint)
            network, gate = networks[key], None
            contract = describe_variant(variant, alignments[key])
            if variant.precision == "int8":
                assert quantisation is not None
                if key not in in_int8:
                    in_int8[key] = make_int8(checkpoint, network, quantisation, teacher)
                network, gate = in_int8[key]
                contract = _add_probe(contract, network)
            model = to_bytes(build_model(network, contract, variant.opset))
            parity = measure_parity(model, checkpoint, pictures)
            file = output / variant.file
            built.append((Exported(file, contract, variant.opset, parity, gate), model))
            advance(1)
    with new_folder(output, marker=CARD, overwrite=overwrite) as folder:
        for exported, model in built:
            (folder / exported.file.name).write_bytes(model)
        golden = _write_golden(folder, [exported.file.name for exported, _ in built], teacher)
        card = {
            "format": FORMAT,
            "space": variants[0].checkpoint.space.to_json(),
            "trained_on": _list_classes(variants),
            "encoders": [_describe(folder, each, with_ort=with_ort) for each, _ in built],
            "golden": golden,
        }
        write_json(folder / CARD, card)
    return Bundle(tuple(exported for exported, _ in built), quarantined)


def _align(checkpoint: Checkpoint, teacher: Checkpoint, pictures: dict[str, Pixels]) -> Alignment:
    own, reference = (
        np.stack([embed_reference(each, picture) for picture in pictures.values()])
        for each in (checkpoint, teacher)
    )
    return Alignment.measure(own, reference, teacher.encoder)


def describe_variant(variant: Variant, alignment: Alignment | None) -> Contract:
    """Return what an encoder file says of itself."""
    checkpoint = variant.checkpoint
    return Contract(
        space=checkpoint.space,
        encoder=checkpoint.encoder_at(variant.precision),
        preprocess=checkpoint.preprocess,
        precision=variant.precision,
        role=checkpoint.kind,
        kind=variant.kind,
        form=variant.form,
        prefix=variant.prefix,
        alignment=dataclasses.asdict(alignment) if alignment else None,
    )


def _add_probe(contract: Contract, network: onnx.ModelProto) -> Contract:
    """Return the contract of a quantised network: its own digest, and the probe's vector."""
    preprocess = contract.preprocess
    cut = prepare(make_probe(), preprocess)
    (vector,) = embed_exactly(network, cut[None], preprocess)
    return dataclasses.replace(
        contract,
        encoder=digest_int8(network, preprocess),
        probe=tuple(round(float(value), 5) for value in vector),
    )


def _list_classes(variants: Sequence[Variant]) -> list[str]:
    classes = (variant.checkpoint.provenance.get("trained_on", []) for variant in variants)
    return sorted({name for each in classes for name in each})


def _write_golden(folder: Path, files: list[str], teacher: Checkpoint | None) -> dict[str, Any]:
    """Write golden pictures, and the vectors of each encoder and of the teacher; describe them."""
    names = write_golden_images(folder / GOLDEN)
    places = [folder / GOLDEN / name for name in names]
    vectors = []

    def keep(stem: str, found: Sequence[NDArray[Any]], **facts: Any) -> None:
        file, values = f"{GOLDEN}/{stem}.npy", np.stack(found)
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        write_array(folder / file, little)
        vectors.append({**dataclasses.asdict(Listed.of(folder, file)), **facts})

    for file in files:
        encoder = QueryEncoder(folder / file, exact=True)
        found = [encoder.encode(place) for place in places]
        contract = encoder.contract
        least = min(TOLERANCE[contract.precision], MIN_COSINE_OF_FORM[contract.form])
        keep(Path(file).stem, found, of=file, min_cosine=least)
    if teacher is not None:
        read, _ = gather_pictures(places, teacher.preprocess)
        keep("teacher", [embed_reference(teacher, picture) for picture in read.values()], of=None)
    pictures = [dataclasses.asdict(Listed.of(folder, f"{GOLDEN}/{name}")) for name in names]
    return {"pictures": pictures, "vectors": vectors}


def _describe(folder: Path, exported: Exported, *, with_ort: bool) -> dict[str, Any]:
    contract, parity = exported.contract, exported.parity
    ort = write_ort(folder / exported.file.name) if with_ort else ()
    return {
        **dataclasses.asdict(Listed.of(folder, exported.file.name)),
        "input": contract.kind,
        "size": contract.preprocess.size,
        "dim": contract.dim,
        "form": contract.form,
        "precision": contract.precision,
        "role": contract.role,
        "encoder": contract.encoder,
        "alignment": dict(contract.alignment) if contract.alignment else None,
        "opset": exported.opset,
        "ort": [dataclasses.asdict(Listed.of(folder, name)) for name in ort],
        "gate": exported.gate.to_json() if exported.gate else None,
        "parity": {
            "pictures": parity.pictures,
            "min_cosine": parity.min_cosine,
            "mean_cosine": parity.mean_cosine,
        },
    }

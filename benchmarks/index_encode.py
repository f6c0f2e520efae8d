"""Encoding a database against its limit, and against the usual way.

    python benchmarks/index_encode.py --data FOLDER --encoder CHECKPOINT

The limit is the decoding and the network, each measured alone on one core at the fastest precision.
`ours` reads a folder into an index folder, with everything on disk at the end. The usual way is a
PyTorch DataLoader over Pillow and torchvision's transforms, the network eager, the vectors added to
a FAISS index and written: given our allocator, memory format and precision.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image
from record import update_result
from timing import begin_as_command_line, on_one_core, seconds
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from encoder.checkpoint import load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.embed import prepare_file
from encoder.inference import prepare_inference
from encoder.memory import count_cores, keep_memory
from encoder.preprocess import Preprocess
from server_index.build import build_index
from server_index.encode import open_encoder
from server_index.source import read_entries

CORES = count_cores()
BATCH = 32


class Pictures(Dataset[torch.Tensor]):
    """Pictures as most scripts read them."""

    def __init__(self, files: list[Path], preprocess: Preprocess) -> None:
        self.files = files
        side = round(preprocess.size / preprocess.crop)
        self.transform = v2.Compose(
            [
                v2.Resize(side, antialias=True),
                v2.CenterCrop(preprocess.size),
                v2.ToImage(),
                v2.ToDtype(torch.float32),
                v2.Normalize(preprocess.mean, preprocess.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> torch.Tensor:
        with Image.open(self.files[at]) as image:
            tensor: torch.Tensor = self.transform(image.convert("RGB"))
        return tensor


def encode_as_usual(checkpoint: Path, files: list[Path], precision: str, output: Path) -> None:
    """Encode and write as clip-retrieval does on one machine: loader, forward, FAISS file."""
    loaded = load_checkpoint(checkpoint)
    model = loaded.model.eval().to(memory_format=torch.channels_last)
    index = faiss.IndexFlatIP(loaded.space.dim)
    loader = DataLoader(Pictures(files, loaded.preprocess), BATCH, num_workers=CORES)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), autocast:
        for batch in loader:
            vectors = model(batch.contiguous(memory_format=torch.channels_last))
            index.add(torch.nn.functional.normalize(vectors.float(), dim=1).numpy())
    faiss.write_index(index, str(output))


def measure(data: Path, checkpoint: Path, rounds: int, work: Path) -> dict[str, float]:
    """Time the parts alone, the whole, and the usual way, in turns."""
    loaded = load_checkpoint(checkpoint)
    files = read_folder(data).files()
    few = [files[at] for at in np.random.default_rng(0).permutation(len(files))[:256]]
    images = np.stack([prepare_file(file, loaded.preprocess) for file in few])
    batches = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
    networks = {name: prepare_inference(loaded, precision=name) for name in ("fp32", "bf16")}
    encoder = open_encoder(checkpoint)

    def ours() -> None:
        shutil.rmtree(work / "index", ignore_errors=True)
        build_index(encoder, read_entries(data), work / "index")

    times: dict[str, list[float]] = {name: [] for name in ("decode", "ours", "usual", *networks)}
    for network in networks.values():
        network.embed_images(batches[0])
    for _ in range(rounds):
        decode = on_one_core(lambda: [prepare_file(file, loaded.preprocess) for file in few])
        times["decode"].append(decode / len(few))
        for name, network in networks.items():
            run = network.embed_images
            together = lambda run=run: [run(batch) for batch in batches]  # noqa: E731
            alone = min(CORES * seconds(together), on_one_core(together))
            times[name].append(alone / len(few))
        fastest = min(networks, key=lambda name: statistics.median(times[name]))
        times["ours"].append(CORES * seconds(ours) / len(files))
        usual = seconds(lambda f=fastest: encode_as_usual(checkpoint, files, f, work / "usual"))
        times["usual"].append(CORES * usual / len(files))
    each = {name: statistics.median(values) for name, values in times.items() if values}
    network_alone = min(each[name] for name in networks)
    limit = each["decode"] + network_alone
    return {
        "encode.images": len(files),
        "encode.images_per_s": CORES / each["ours"],
        "encode.limit_images_per_s": CORES / limit,
        "encode.vs_limit": limit / each["ours"],
        "encode.outside_core_ms": 1e3 * (each["ours"] - limit),
        "encode.decode_core_ms": 1e3 * each["decode"],
        "encode.network_core_ms": 1e3 * network_alone,
        "encode.vs_dataloader": each["usual"] / each["ours"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--encoder", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    begin_as_command_line()
    keep_memory()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as work:
        figures = measure(asked.data, asked.encoder, asked.rounds, Path(work))
    for name, value in figures.items():
        print(f"{name:<28} {value:10.3f}")
    update_result(
        "server_index",
        figures,
        part="encode",
        command="python benchmarks/index_encode.py --data DATA --encoder CHECKPOINT",
        seed=0,
        rounds=asked.rounds,
        data=asked.data.name,
    )


if __name__ == "__main__":
    main()

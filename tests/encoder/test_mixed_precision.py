"""The trunk in bfloat16, the rest in fp32, in training as in use."""

from pathlib import Path

import pytest
import torch
from program import refuse, succeed

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.optimisation import Optimisation, resolve_precision

FLAGS = "--size 48 --epochs 1 --batch 8 --images-per-class 2 --dim 16 --test-share 0.25"


def test_gradients_are_fp32_and_near_those_of_fp32(teacher: Checkpoint) -> None:
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for bfloat16 in (False, True):
        features = teacher.model.extract_features(images, bfloat16=bfloat16)
        assert features.dtype == torch.float32
        aim = torch.linspace(-1, 1, features.shape[1])
        weights = [teacher.model.trunk.conv_stem.weight, teacher.model.trunk.conv_head.weight]
        gradients.append(torch.autograd.grad((features * aim).mean(), weights))
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        cosine = torch.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0)
        assert 0.9 < float(cosine) < 0.999999


def test_bfloat16_is_chosen_where_it_pays() -> None:
    settings = [Optimisation(1, 1e-3, precision=name) for name in ("auto", "fp32", "bf16")]
    on_cpu, on_gpu = torch.device("cpu"), torch.device("cuda")
    chosen = [
        [resolve_precision(s, device).precision for s in settings] for device in (on_cpu, on_gpu)
    ]
    assert chosen == [["fp32", "fp32", "bf16"], ["bf16", "fp32", "bf16"]]


def test_teacher_and_student_train_in_it(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}
    for name in ("fp32", "bf16"):
        teacher, student = tmp_path / f"teacher-{name}", tmp_path / f"student-{name}"
        succeed(capsys, "train-teacher", drawn, teacher, *FLAGS.split(), "--precision", name)
        flags = ("--size", 32, "--epochs", 1, "--precision", name)
        succeed(capsys, "distill", tmp_path / "teacher-fp32", drawn, student, *flags)
        made[name] = [load_checkpoint(path) for path in (teacher, student)]
    for exact, rounded in zip(made["fp32"], made["bf16"], strict=True):
        assert exact.encoder != rounded.encoder
        assert all(value.dtype == torch.float32 for value in rounded.model.state_dict().values())
    line = refuse(capsys, "train-teacher", drawn, tmp_path / "no", "--precision", "fp8")
    assert "--precision 'fp8' is not one of auto, fp32, bf16" in line

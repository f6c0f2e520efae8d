import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.errors import PocketlensError
from encoder.losses.asymmetric import (
    AsymmetricWeights,
    asymmetric_loss,
    asymmetric_terms,
    feature_term,
)


def slow_terms(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """The formulas of Suma & Tolias (2023), loop by loop."""
    images, views, _ = student.shape
    terms = {"absolute": 0.0, "teacher_student": 0.0, "student_student": 0.0}
    for b in range(images):
        s, t = student[b], teacher[b]
        for a in range(views):
            terms["absolute"] += (1 - s[a] @ t[a]) ** 2 / views
            for other in range(views):
                if other == a:
                    continue
                pairs = views * (views - 1)
                target = t[a] @ t[other]
                terms["teacher_student"] += (s[a] @ t[other] - target) ** 2 / pairs
                terms["student_student"] += (s[a] @ s[other] - target) ** 2 / pairs
    return terms


def unit(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


@pytest.mark.parametrize(("images", "views"), [(1, 2), (3, 2), (5, 4), (2, 8)])
def test_terms_equal_the_slow_loop(images: int, views: int) -> None:
    student, teacher = unit(images, views, 16, seed=1), unit(images, views, 16, seed=2)
    expected = slow_terms(student.numpy(), teacher.numpy())
    found = asymmetric_terms(student, teacher)
    assert {name: float(term) for name, term in found.items()} == pytest.approx(expected, rel=1e-9)


def test_the_feature_term_equals_the_slow_loop() -> None:
    student, teacher = (5 * unit(3, 4, 16, seed=seed) for seed in (8, 9))
    student[0, 0] *= 2
    expected = 0.0
    for b in range(3):
        for s, t in zip(student[b].numpy(), teacher[b].numpy(), strict=True):
            cosine = s @ t / np.sqrt((s @ s) * (t @ t))
            expected += (1 - cosine) ** 2 / 4
    assert float(feature_term(student, teacher)) == pytest.approx(expected, rel=1e-9)
    assert float(feature_term(student, 3 * student)) < 1e-20


def test_a_single_view_has_no_relations() -> None:
    student, teacher = unit(4, 1, 8, seed=3), unit(4, 1, 8, seed=4)
    terms = asymmetric_terms(student, teacher)
    assert float(terms["teacher_student"]) == float(terms["student_student"]) == 0
    assert float(terms["absolute"]) > 0


def test_a_perfect_student_has_no_loss() -> None:
    vectors = unit(3, 4, 8, seed=5)
    assert all(float(term) < 1e-20 for term in asymmetric_terms(vectors, vectors).values())


def test_relations_do_not_cross_images() -> None:
    student, teacher = unit(2, 3, 8, seed=6), unit(2, 3, 8, seed=7)
    together = asymmetric_terms(student, teacher)
    apart = [asymmetric_terms(student[i : i + 1], teacher[i : i + 1]) for i in range(2)]
    for name, term in together.items():
        assert float(term) == pytest.approx(sum(float(part[name]) for part in apart))


def test_weights_scale_the_terms() -> None:
    terms = {"absolute": torch.tensor(1.0), "teacher_student": torch.tensor(2.0)}
    terms |= {"student_student": torch.tensor(4.0), "feature": torch.tensor(8.0)}
    without = AsymmetricWeights(0.5, 0.25, 0.125, neighbours=0.0)
    assert float(asymmetric_loss(terms, without)) == 4.0
    terms["neighbours"] = torch.tensor(16.0)
    assert float(asymmetric_loss(terms, AsymmetricWeights(0.5, 0.25, 0.125, 0.0625))) == 5.0
    with pytest.raises(PocketlensError, match="negative"):
        AsymmetricWeights(-1, 0)

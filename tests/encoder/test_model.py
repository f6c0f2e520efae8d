import pytest
import torch
from torch import nn

from encoder.backbones import build_trunk, input_statistics, load_imagenet, load_weights_file
from encoder.errors import PocketlensError
from encoder.model import Architecture, EmbeddingModel, GeM, fold_for_inference
from encoder.teacher import start_model


def test_embeddings_are_unit_vectors_of_the_dimension() -> None:
    model = start_model(Architecture(dim=24, pooling="gem"), "").eval()
    with torch.no_grad():
        vectors = model(torch.randn(3, 3, 64, 48))
    assert vectors.shape == (3, 24)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_folded_and_trained_norms_give_the_same_start() -> None:
    trunk = build_trunk("tf_efficientnet_lite0")
    load_imagenet(trunk, "tf_efficientnet_lite0")
    images = torch.randn(2, 3, 64, 64)
    kept = EmbeddingModel(Architecture(batch_norm="trained"), trunk).eval()
    folded = EmbeddingModel(Architecture(batch_norm="folded"), trunk).eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded.trunk(images), kept.trunk(images), rtol=1e-3, atol=1e-3)
        again = fold_for_inference(kept, Architecture(batch_norm="trained"))
        torch.testing.assert_close(again(images), kept(images), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in again.modules())


def test_imagenet_weights_are_the_packages_and_not_random() -> None:
    """The packaged network must tell smooth pictures apart in a stable way: its stem is known."""
    trunk = build_trunk("tf_efficientnet_lite0")
    before = trunk.conv_stem.weight.clone()
    load_imagenet(trunk, "tf_efficientnet_lite0")
    assert not torch.equal(before, trunk.conv_stem.weight)
    assert trunk.bn1.running_var.std() > 1e-3
    assert input_statistics("tf_efficientnet_lite0") == ((127.0,) * 3, (128.0,) * 3)


def test_gem_with_exponent_one_is_the_mean() -> None:
    features = torch.rand(2, 5, 3, 3) + 0.1
    torch.testing.assert_close(GeM(1.0)(features), features.mean(dim=(2, 3)))
    assert (GeM(3.0)(features) >= features.mean(dim=(2, 3))).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"dim": 4}, "dim 4"),
        ({"batch_norm": "half"}, "batch_norm"),
    ],
)
def test_bad_architectures_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(PocketlensError, match=message):
        Architecture(**fields)  # type: ignore[arg-type]


def test_trunks_side_by_side_are_the_single_ones_joined() -> None:
    names = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
    joined = start_model(Architecture(trunk="+".join(names), dim=16), "").eval()
    singles = [start_model(Architecture(trunk=name, dim=16), "").eval() for name in names]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = torch.cat([single.trunk(images) for single in singles], dim=1)
        torch.testing.assert_close(joined.trunk(images), expected)
        assert joined(images).shape == (2, 16)
    assert joined.projection.in_features == expected.shape[1] == 2560


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_efficientnet_lite0+no_such_net", "no_such_net"),
        ("tf_efficientnet_lite0+", "trunk ''"),
    ],
)
def test_trunks_that_do_not_go_together_are_refused(name: str, message: str) -> None:
    with pytest.raises(PocketlensError, match=message):
        build_trunk(name)


def test_trunks_of_other_pixels_are_refused() -> None:
    assert input_statistics("resnet18+resnet34") == input_statistics("resnet18")
    with pytest.raises(PocketlensError, match="tf_efficientnet_lite0 were trained on pixels"):
        input_statistics("resnet18+resnet34+tf_efficientnet_lite0")


def test_trunks_of_different_strides_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of 2 by 2 and of 4 by 4 places cannot be joined."""
    import timm

    class Even(nn.Module):
        num_features = 4

        def __init__(self, kernel: int, stride: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, kernel, stride)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.conv(images)
            return features

    # The last rounds down, which shows at sides that are no multiples of its stride.
    kinds = {"coarse": (1, 32), "fine": (1, 16), "floor": (32, 32)}
    monkeypatch.setattr(timm, "create_model", lambda name, **_: Even(*kinds[name]))
    assert build_trunk("coarse+coarse")(torch.zeros(1, 3, 112, 112)).shape == (1, 8, 4, 4)
    for other in ("fine", "floor"):
        with pytest.raises(PocketlensError, match=rf"coarse\+{other}.*maps of one size"):
            build_trunk(f"coarse+{other}")


def test_unknown_trunk_and_wrong_weights_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PocketlensError, match="no_such_net"):
        build_trunk("no_such_net")
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"not safetensors")
    with pytest.raises(PocketlensError, match=r"weights\.safetensors"):
        load_weights_file(build_trunk("tf_efficientnet_lite0"), file)


def test_a_trunk_may_be_built_otherwise_than_timm_does() -> None:
    name = "mobilenetv2_035"
    plain, same = build_trunk(name), build_trunk(f"{name}:pad_type=same,mean=0.5")
    same.load_state_dict(plain.state_dict())
    image = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    found = [trunk.eval()(image) for trunk in (plain, same)]
    assert found[0].shape == found[1].shape and not torch.allclose(*found)
    mean, std = input_statistics("mobilenetv2_035")
    assert input_statistics("mobilenetv2_035:pad_type=same,mean=0.5") == ((127.5,) * 3, std)
    assert input_statistics("mobilenetv2_035:std=0.25") == (mean, (63.75,) * 3)
    assert input_statistics("mobilenetv2_035:mean=0,std=1") == ((0.0,) * 3, (255.0,) * 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("pad_type", "timm cannot build it"),
        ("pad_type=sane", "'pad_type=sane' is not pad_type=same"),
        ("checkpoint_path=/etc/passwd", "is not pad_type=same"),
        ("mean=grey", "mean 'grey' is not a number"),
        ("mean=", "mean '' is not a number"),
        ("std=0", "std 0 is not between 0 and 1"),
    ],
)
def test_what_a_trunk_cannot_be_built_with_is_named(given: str, message: str) -> None:
    name = f"mobilenetv2_035:{given}"
    with pytest.raises(PocketlensError, match=message):
        build_trunk(name)

"""The loop on toys: what is learnt, judged, kept, and taken up again after a stop."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from encoder import training as loop
from encoder import training_state
from encoder.errors import PocketlensError
from encoder.losses.sampled import SampledSoftmax
from encoder.optimisation import Optimisation, Optimisers, build_optimisers
from encoder.training import BatchLoss, Training, run_training
from encoder.training_state import StateFolder, open_state

CLASSES, BATCH = 30, 12


class Toy:
    """Thirty classes told by what they are, a dozen at a time; stops at a batch when told."""

    def __init__(self, share: float = 1.0, *, stop_at: int = -1, broken_at: int = -1) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(CLASSES, 9), nn.BatchNorm1d(9), nn.Linear(9, 8))
        self.loss = SampledSoftmax(CLASSES, 8, 0.2, share, learn_temperature=True)
        self.stop_at, self.broken_at = stop_at, broken_at
        self.values: list[float] = []
        self.begun: list[int] = []

    def show(self, number: int, rng: np.random.Generator) -> Callable[[], Tensor]:
        drawn = torch.from_numpy(rng.permutation(4 * CLASSES)[:BATCH] % CLASSES)
        self.begun.append(number)
        return lambda: drawn

    def compute_loss(self, number: int, drawn: Tensor) -> BatchLoss:
        if number == self.stop_at:
            raise KeyboardInterrupt
        vectors = functional.normalize(self.model(torch.eye(CLASSES)[drawn]), dim=1)
        value = self.loss(vectors, drawn) * (float("nan") if number == self.broken_at else 1)
        self.values.append(float(value.detach()))
        names = [f"{int(n)}.jpg" for n in drawn]
        return BatchLoss(value, {"loss": self.values[-1]}, names)

    def training(
        self,
        steps: int,
        judge: Callable[[nn.Module], dict[str, float]] = lambda model: {},
        ahead: int = 0,
    ) -> Training[Tensor]:
        return Training(
            "learning",
            self.model,
            [(self.model[0], 1.0), (self.model[1:], 2.0), (self.loss, 1.0)],
            steps,
            10,
            BATCH,
            self.show,
            self.compute_loss,
            judge,
            self.loss,
            ahead,
        )

    def weights(self) -> dict[str, Tensor]:
        found = {**self.model.state_dict(), **self.loss.state_dict()}
        return {name: weight.clone() for name, weight in found.items()}


def state_in(folder: Path) -> StateFolder:
    (folder / "it.state").mkdir(exist_ok=True, parents=True)
    return StateFolder(folder / "it.state", "it")


def judge_by_weights(model: nn.Module) -> dict[str, float]:
    """Rise and fall as the weights do, whatever these are."""
    assert not model.training
    return {"val_map_at_r": float(sum(weight.sum() for weight in model.state_dict().values()))}


def test_it_learns_with_some_classes_a_step(tmp_path: Path) -> None:
    """The proxies' sparse gradients and the temperature are trained beside the network."""
    toy = Toy(0.3)
    before = toy.weights()
    run_training(toy.training(150), Optimisation(epochs=1, lr=1e-2), 0, state_in(tmp_path))
    assert np.mean(toy.values[-10:]) < 0.3 * np.mean(toy.values[:10])
    assert all(not torch.equal(weight, before[name]) for name, weight in toy.weights().items())
    log = (tmp_path / "it.state/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(10, 151, 10))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 40])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step"])
def test_any_number_of_steps_trains(steps: int, schedule: str, tmp_path: Path) -> None:
    toy = Toy()
    before = toy.weights()
    settings = Optimisation(epochs=1, lr=0.1, schedule=schedule)  # type: ignore[arg-type]
    run_training(toy.training(steps), settings, 0, state_in(tmp_path))
    assert not torch.equal(toy.weights()["0.weight"], before["0.weight"])


WAYS = {
    "plain": (1.0, {}),
    "sparse": (0.3, {"schedule": "cosine"}),
    "sgd": (0.3, {"optimiser": "sgd"}),
    "averaged": (1.0, {"average": 0.9, "schedule": "step"}),
    "accumulated": (0.3, {"accumulate": 3}),
    "head first": (1.0, {"head_passes": 0.9, "epochs": 3}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stop_at", [1, 9, 16, 17, 24])
def test_a_stopped_training_ends_with_the_same_weights(
    way: str, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, wherever it is stopped; steps after the last state are taken again."""
    share, given = WAYS[way]
    settings = Optimisation(**{"epochs": 1, "lr": 1e-2, **given})  # type: ignore[arg-type]
    monkeypatch.setattr(loop, "_LOG_EVERY", 2)
    whole = Toy(share)
    run_training(whole.training(25, judge_by_weights), settings, 7, state_in(tmp_path / "whole"))
    assert whole.begun == list(range(25 * settings.accumulate))
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0 if stop_at % 2 else 1e9)
    stopped = Toy(share, stop_at=stop_at * settings.accumulate)
    with pytest.raises(KeyboardInterrupt):
        run_training(stopped.training(25, judge_by_weights), settings, 7, state_in(tmp_path))
    torch.manual_seed(99)
    gone_on = Toy(share)
    ahead = 2  # begun before their turn, batches are the same
    run_training(gone_on.training(25, judge_by_weights, ahead), settings, 7, state_in(tmp_path))
    assert gone_on.begun == list(range(gone_on.begun[0], 25 * settings.accumulate))
    expected = whole.weights()
    for name, weight in gone_on.weights().items():
        assert torch.equal(weight, expected[name]), name
    assert len(gone_on.values) < len(whole.values) or stop_at == 1 or not stop_at % 2

    def read(folder: Path) -> list[dict[str, float]]:
        lines = (folder / "it.state/metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert read(tmp_path) == read(tmp_path / "whole")


def test_a_training_may_be_stopped_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has every line once, also where a state is saved before the next line."""
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    settings, folder = Optimisation(epochs=1, lr=1e-2), state_in(tmp_path)
    for stop_at in (12, 13, 15, 22):
        with pytest.raises(KeyboardInterrupt):
            run_training(Toy(stop_at=stop_at).training(30), settings, 0, folder)
    run_training(Toy().training(30), settings, 0, folder)
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert sorted(lines, key=lambda line: line["seconds"]) == lines


def test_a_full_disk_while_saving_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    settings = Optimisation(epochs=1, lr=1e-2)
    with (
        pytest.raises(PocketlensError, match=r"cannot be written .*No space left") as caught,
        open_state(tmp_path / "it", "it", resume=False, overwrite=False) as folder,
    ):
        run_training(Toy(stop_at=-1).training(10), settings, 0, folder)
        monkeypatch.setattr(training_state, "save_file", fail)
        training_state.save_state(folder, training_state.Progress(step=11), {})
    assert "--resume goes on" in str(caught.value)
    assert json.loads((tmp_path / "it.state/state.json").read_text())["step"] == 10


def test_a_kill_while_saving_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    settings, folder = Optimisation(epochs=1, lr=1e-2), state_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_training(Toy(stop_at=6).training(20), settings, 0, folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_state, "write_json", killed)
        run_training(Toy().training(20), settings, 0, folder)
    assert json.loads((folder.path / "state.json").read_text())["step"] == 6
    assert len(list(folder.path.glob("step-*.safetensors"))) == 2
    whole, gone_on = Toy(), Toy()
    run_training(whole.training(20), settings, 0, state_in(tmp_path / "whole"))
    run_training(gone_on.training(20), settings, 0, folder)
    torch.testing.assert_close(gone_on.weights(), whole.weights(), rtol=0, atol=0)
    assert len(list(folder.path.glob("step-*.safetensors"))) == 1


def test_the_best_weights_are_kept_and_patience_ends(tmp_path: Path) -> None:
    scores = iter([10.0, 30.0, 20.0, 30.0, 5.0, 99.0])
    seen = []

    def judge(model: nn.Module) -> dict[str, float]:
        seen.append({name: weight.clone() for name, weight in model.state_dict().items()})
        return {"val_map_at_r": next(scores)}

    toy = Toy()
    settings = Optimisation(epochs=1, lr=1e-2, patience=3)
    run_training(toy.training(60, judge), settings, 0, state_in(tmp_path))
    assert len(seen) == 5 and len(toy.values) == 50
    # Of the two that are judged alike, the later.
    torch.testing.assert_close(dict(toy.model.state_dict()), seen[3], rtol=0, atol=0)


def test_the_average_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    judged = []

    def judge(model: nn.Module) -> dict[str, float]:
        judged.append({name: weight.clone() for name, weight in model.state_dict().items()})
        return {"val_map_at_r": float(len(judged))}

    averaged, plain = Toy(), Toy()
    settings = Optimisation(epochs=1, lr=1e-2, average=0.9)
    run_training(averaged.training(20, judge), settings, 0, state_in(tmp_path / "a"))
    torch.testing.assert_close(dict(averaged.model.state_dict()), judged[-1], rtol=0, atol=0)
    plainly = Optimisation(epochs=1, lr=1e-2)
    run_training(plain.training(20), plainly, 0, state_in(tmp_path / "b"))
    assert averaged.values == plain.values
    assert not torch.equal(averaged.model[0].weight, plain.model[0].weight)


def test_gradients_of_batches_add_up_to_that_of_one(tmp_path: Path) -> None:
    """Two batches a step change the weights by their mean gradient times the rate."""
    toy, slow = Toy(), Toy()
    for part in (toy, slow):
        part.model[1] = nn.Identity()
    settings = Optimisation(
        epochs=1,
        lr=0.1,
        accumulate=2,
        weight_decay=0,
        optimiser="sgd",
        schedule="step",
        warm_up=0,
    )
    run_training(toy.training(1), settings, 3, state_in(tmp_path))
    weights = [slow.model[0].weight, slow.loss.proxies]
    losses = []
    for number in (0, 1):
        rng, torch_seed = loop.seed_batch(3, number)
        torch.manual_seed(torch_seed)
        losses.append(slow.compute_loss(number, slow.show(number, rng)()).loss)
    gradients = torch.autograd.grad((losses[0] + losses[1]) / 2, weights)
    for weight, gradient, new in zip(
        weights, gradients, [toy.model[0].weight, toy.loss.proxies], strict=True
    ):
        torch.testing.assert_close(new, weight - 0.1 * gradient)


def test_the_trunk_rests_while_the_head_begins(tmp_path: Path) -> None:
    toy = Toy(stop_at=9)
    start = toy.weights()
    settings = Optimisation(epochs=2, lr=1e-2, head_passes=1)  # of 20 steps
    with pytest.raises(KeyboardInterrupt):
        run_training(toy.training(20), settings, 0, state_in(tmp_path))
    assert torch.equal(toy.weights()["0.weight"], start["0.weight"])
    assert not torch.equal(toy.weights()["2.weight"], start["2.weight"])
    toy.stop_at = -1
    assert all(weight.requires_grad for weight in toy.model.parameters())
    run_training(toy.training(20), settings, 0, state_in(tmp_path))
    assert not torch.equal(toy.weights()["0.weight"], start["0.weight"])


def test_a_loss_that_is_no_number_names_step_and_images(tmp_path: Path) -> None:
    """What was saved before stays."""
    settings = Optimisation(epochs=1, lr=1e-2)
    with (
        pytest.raises(
            PocketlensError, match=r"the loss is not a number at step 15 of 20"
        ) as caught,
        open_state(tmp_path / "it", "it", resume=False, overwrite=False) as folder,
    ):
        run_training(Toy(broken_at=14).training(20, judge_by_weights), settings, 0, folder)
    assert ".jpg" in str(caught.value) and "lower --lr" in str(caught.value)
    assert json.loads((tmp_path / "it.state/state.json").read_text())["step"] == 10


@contextlib.contextmanager
def left_at(folder: Path) -> Iterator[None]:
    """Leave a stopped training of `folder / "it"`."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_state(folder / "it", "it", resume=False, overwrite=False) as state,
    ):
        toy = Toy(stop_at=15)
        run_training(toy.training(20, judge_by_weights), Optimisation(epochs=1, lr=0.1), 0, state)
    assert (folder / "it.state/state.json").exists()
    yield


def test_a_stopped_training_is_not_lost_unasked(tmp_path: Path) -> None:
    with left_at(tmp_path):
        with (
            pytest.raises(PocketlensError, match="--resume"),
            open_state(tmp_path / "it", "it", resume=False, overwrite=False),
        ):
            pass
        with (
            pytest.raises(PocketlensError, match="of other data, options or version"),
            open_state(tmp_path / "it", "other", resume=True, overwrite=False),
        ):
            pass
        with open_state(tmp_path / "it", "it", resume=True, overwrite=False) as state:
            found = training_state.load_state(state)
            assert found is not None and found[0].step == 10
        assert not (tmp_path / "it.state").exists()
    with (
        left_at(tmp_path),
        open_state(tmp_path / "it", "other", resume=False, overwrite=True) as state,
    ):
        assert training_state.load_state(state) is None


def test_a_folder_of_the_users_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "it.state").mkdir()
    (tmp_path / "it.state/thesis.txt").write_text("mine")
    for flags in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        with (
            pytest.raises(PocketlensError, match=r"it\.state: is in the way"),
            open_state(tmp_path / "it", "it", **flags),
        ):
            pass
    assert (tmp_path / "it.state/thesis.txt").read_text() == "mine"
    training_state.mark_started(StateFolder(tmp_path / "it.state", "it"))
    with open_state(tmp_path / "it", "it", resume=True, overwrite=False):
        pass
    assert [entry.name for entry in (tmp_path / "it.state").iterdir()] == ["thesis.txt"]


def test_what_lies_where_a_state_would_is_not_removed_for_its_name(tmp_path: Path) -> None:
    """A finished store or student that somebody put there is no state: none is begun."""
    made = tmp_path / "it.state/views/views.json"
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    for resume in (False, True):
        with (
            pytest.raises(PocketlensError, match=r"it\.state: is in the way"),
            open_state(tmp_path / "it", "it", resume=resume, overwrite=False),
        ):
            pass
    assert made.exists()


def test_the_trunk_learns_at_last_however_few_the_steps(tmp_path: Path) -> None:
    toy = Toy()
    start = toy.weights()
    settings = Optimisation(epochs=2, lr=1e-2, head_passes=1.9)
    run_training(toy.training(2), settings, 0, state_in(tmp_path))
    assert not torch.equal(toy.weights()["0.weight"], start["0.weight"])


@pytest.mark.parametrize(
    "left", [".state.json.x.partial", ".tmpAb12", ".step-00000003.safetensors.x.partial", "fold-1"]
)
@pytest.mark.parametrize("started", [True, False])
def test_what_a_kill_left_is_not_in_the_way(left: str, started: bool, tmp_path: Path) -> None:
    place = tmp_path / "it.state"
    place.mkdir()
    if left == "fold-1":
        (place / left).mkdir()
    else:
        (place / left).write_text("half")
    if started:
        training_state.mark_started(StateFolder(place, "it"))
        with open_state(tmp_path / "it", "it", resume=True, overwrite=False) as state:
            assert (state.path / left).exists() == (left == "fold-1")
    else:
        with open_state(tmp_path / "it", "it", resume=False, overwrite=False) as state:
            assert list(state.path.iterdir()) == []
    assert not place.exists()


def test_moments_are_laid_out_as_their_weights(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def make() -> Optimisers:
        return build_optimisers([(conv, 1.0)], Optimisation(epochs=1, lr=0.1), 9)

    made, again = make(), make()
    conv(torch.ones(1, 3, 5, 5)).sum().backward()
    made.step()
    tensors = training_state.gather_tensors({"model": conv}, made)
    folder = state_in(tmp_path)
    training_state.save_state(folder, training_state.Progress(step=1), tensors)
    found = training_state.load_state(folder)
    assert found is not None
    with pytest.warns(UserWarning, match="lr_scheduler"):
        training_state.scatter_tensors(found[1], {"model": conv}, again, 1)
    moments = again.optimisers[0].state[conv.weight]["exp_avg"]
    assert moments.stride() == conv.weight.stride() != moments.contiguous().stride()
    assert torch.equal(moments, made.optimisers[0].state[conv.weight]["exp_avg"])


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    with left_at(tmp_path):
        (tensors,) = (tmp_path / "it.state").glob("*.safetensors")
        tensors.write_bytes(tensors.read_bytes()[:200])
        with (
            pytest.raises(PocketlensError, match="the stopped training is damaged"),
            open_state(tmp_path / "it", "it", resume=True, overwrite=False) as state,
        ):
            training_state.load_state(state)
        assert (tmp_path / "it.state/state.json").exists()


def test_an_error_before_the_first_state_leaves_no_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(PocketlensError, match="not a number"),
        open_state(tmp_path / "it", "it", resume=False, overwrite=False) as folder,
    ):
        toy = Toy(broken_at=3)
        run_training(toy.training(20), Optimisation(epochs=1, lr=1e-2), 0, folder)
    assert list(tmp_path.iterdir()) == []


def test_too_few_classes_judge_but_do_not_choose(tmp_path: Path) -> None:
    scores = iter([50.0, 40.0, 30.0])
    seen = []

    def judge(model: nn.Module) -> dict[str, float]:
        seen.append({name: weight.clone() for name, weight in model.state_dict().items()})
        return {"val_map_at_r": next(scores)}

    toy = Toy()
    training = dataclasses.replace(toy.training(30, judge), choose=False)
    run_training(training, Optimisation(epochs=1, lr=1e-2), 0, state_in(tmp_path))
    assert len(seen) == 3
    torch.testing.assert_close(dict(toy.model.state_dict()), seen[2], rtol=0, atol=0)

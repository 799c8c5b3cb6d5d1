"""One process is the trivial case; who works together is told from --gpus, --device and a launcher's environment."""

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils import distributed, process_group
from torch_utils.launch import LAUNCHER_VARIABLES, World, find_world, launch

OUTSIDE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)  # as where there are GPUs on Linux


def test_one_process_keeps_its_gradients_where_they_are() -> None:
    one, two = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3))
    two.grad = torch.ones(3)
    (gradient,) = distributed.average_gradients([one, two])
    assert gradient is two.grad and one.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_all_finite_by_hand(bad: float) -> None:
    good = [torch.ones(3), torch.full([2, 2], -1e15), torch.zeros(0)]
    assert distributed.all_finite(good) and distributed.all_finite([])
    assert not distributed.all_finite([*good, torch.tensor([0.0, bad])])


def test_alone_the_others_words_are_ones_own() -> None:
    assert distributed.from_rank_zero(lambda: 3) == distributed.everywhere(lambda: 3) == 3
    assert distributed.any_of(True) and not distributed.any_of(False)
    assert distributed.all_reduce_mean(torch.tensor(2.0)) == 2


class Store:
    """torch's key-value store, as far as counters use it."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def add(self, key: str, amount: int) -> int:
        self.numbers[key] = self.numbers.get(key, 0) + amount
        return self.numbers[key]

    def get(self, key: str) -> bytes:
        return str(self.numbers[key]).encode()


def test_tickets_alone_and_shared_by_two() -> None:
    assert list(distributed.Tickets(3)) == [0, 1, 2] and list(distributed.Tickets(0)) == []
    store = Store()
    taken, others = [], []
    with distributed.shared_store(store):
        tickets = distributed.Tickets(4)
        counted = distributed.SharedCounter()
        counted.add(5)
    with distributed.shared_store(store):  # another process, which makes the same ones in the same order
        beside = distributed.Tickets(4)
        seen = distributed.SharedCounter()
        for ticket, other in zip(iter(tickets), iter(beside), strict=True):
            taken.append(ticket)
            others.append(other)
        assert (taken, others, seen.value) == ([0, 2], [1, 3], 5)
    assert distributed.SharedCounter().value == 0  # alone again


def test_who_works_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_world(None, "cpu") == find_world(1, "cpu") == World(1, "cpu")
    assert find_world(3, "cpu") == World(3, "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_world(2, "auto") == World(2, "auto")
    for name, value in OUTSIDE.items():
        monkeypatch.setenv(name, value)
    assert find_world(None, "auto") == find_world(4, "auto") == World(4, "auto", outside=True)


@pytest.mark.parametrize(
    ("gpus", "device", "environment", "message"),
    [
        (0, "cpu", {}, "--gpus: 0 is not at least 1"),
        (2, "auto", {}, "--gpus: 2, but this machine has 1 usable GPUs; --device cpu would run 2"),
        (2, "cuda:0", {}, "--device: cuda:0: 2 processes take a GPU each"),
        (1, "cuda:1", {}, "--device: cuda:1: this machine has 1 usable GPUs"),
        (3, "auto", OUTSIDE, "--gpus: 3, but the launcher has started 4 processes"),
        (None, "0", OUTSIDE, "--device: 0: 4 processes take a GPU each"),
        (None, "auto", {**OUTSIDE, "LOCAL_RANK": "one"}, "LOCAL_RANK: 'one' in the environment is not a number"),
        (None, "auto", {**OUTSIDE, "RANK": "4"}, "RANK: 4 in the environment is not below WORLD_SIZE 4"),
        (None, "auto", {"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK: not set, though RANK and WORLD_SIZE are"),
    ],
)
def test_contradictions_are_named(
    gpus: int | None, device: str, environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        find_world(gpus, device)
    assert str(caught.value).startswith(message)


def test_gpus_that_cannot_talk_to_one_another_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(UserError, match="^--gpus: 2, but this torch has no NCCL"):
        find_world(2, "auto")
    assert find_world(2, "cpu").size == 2 and find_world(1, "cuda").size == 1


def test_each_process_has_the_gpu_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert distributed.pick_device("auto") == torch.device("cuda:0")
    monkeypatch.setattr(distributed, "is_running", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.pick_device("auto") == distributed.pick_device("cuda") == torch.device("cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UserError, match="cuda:4: this machine has 4 usable GPUs"):
        distributed.pick_device("auto")


def test_processes_that_could_not_talk_are_told_before_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [process_group._own_kind("auto", local) for local in (0, 1)] == ["GPU", "GPU"]
    assert process_group._own_kind("cpu", 0) == "CPU"

    def together(first: str, second: str) -> str:
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        store.set("kind/1", second)
        return process_group._kind_of_all(store, 0, 2, first)

    assert together("GPU", "GPU") == "GPU" and together("CPU", "CPU") == "CPU"
    with pytest.raises(UserError, match="--device: process 1 of 2 has CPU, process 0 has GPU"):
        together("GPU", "CPU")
    with pytest.raises(UserError, match="--device: process 1 of 2 has none of its machine's 2 usable GPUs"):
        together("GPU", process_group._own_kind("auto", 2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert process_group._own_kind("auto", 3) == "CPU"
    with pytest.raises(UserError, match="--device: process 0 of 2 has none"):
        together(process_group._own_kind("cuda", 0), process_group._own_kind("cuda", 1))


def test_nothing_to_do_starts_no_work() -> None:
    launch(World(2, "cpu"), lambda: None, lambda plan, stop: pytest.fail("work"))

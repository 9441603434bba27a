"""Batches: what is served, in which order, and that an interrupted epoch continues exactly."""

import hashlib
import json
import math

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.utils.data import DataLoader, TensorDataset

from vaekit import CVAE
from vaekit.data import Batch, Batches, Split, batches
from vaekit.errors import ConfigError, DataError, DeviceError

COUNT = 23
LABELS = torch.arange(COUNT)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (COUNT, 1, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def epoch(loader):
    """All images and labels of an epoch."""
    x, y = zip(*loader, strict=True)
    return torch.cat(x), None if y[0] is None else torch.cat(y)


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for pair in zip(ours, theirs, strict=True) for a, b in zip(*pair, strict=True)
    )


# what is served


def test_serves_what_a_data_loader_serves(images):
    loader = DataLoader(TensorDataset(images.float() / 255, LABELS), batch_size=5)
    assert same(list(Batches(Split(images, LABELS), batch_size=5)), list(loader))
    assert same(list(Batches(images, LABELS, batch_size=5)), list(loader))


def test_types_and_counts(images):
    loader = Batches(images, LABELS, batch_size=5)
    assert [len(x) for x, _ in loader] == [5, 5, 5, 5, 3]
    assert len(loader) == 5
    assert loader.num_rows == COUNT
    x, y = next(iter(loader))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_a_single_row_at_the_end_joins_the_batch_before_it(images):
    loader = Batches(images[:11], LABELS[:11], batch_size=5, shuffle=True, generator=generator())
    assert [len(x) for x, _ in loader] == [5, 6]
    assert len(loader) == 2
    assert sorted(torch.cat([y for _, y in loader]).tolist()) == sorted(LABELS[:11].tolist())
    assert [len(x) for x, _ in Batches(images[:1], LABELS[:1], batch_size=5)] == [1]
    assert [len(x) for x, _ in Batches(images[:3], LABELS[:3], batch_size=1)] == [1, 1, 1]


def test_no_labels_are_invented(images):
    for data in (images, Split(images)):
        for batch in Batches(data, batch_size=5):
            assert batch.labels is None
            with pytest.raises(DataError, match="conditional on 10 classes, but the loader gives no labels"):
                CVAE(20, 10).to_model(batch)
    with pytest.raises(DataError, match="no labels"):
        Split(images).rows(slice(3)).required_labels()


def test_ends_of_the_pixel_range_are_exact():
    x, _ = next(iter(Batches(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), batch_size=2)))
    assert x.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floating_point_images_are_served_unchanged(dtype):
    counts = torch.tensor([[0.0, 17.25], [-3.0, 1e6]], dtype=dtype)
    x, y = next(iter(Batches(counts, batch_size=2)))
    assert x.dtype == dtype
    assert torch.equal(x, counts)
    assert y is None


def test_nothing_is_copied_and_nothing_served_is_shared(images):
    loader = Batches(images, LABELS, batch_size=5)
    assert loader.x.data_ptr() == images.data_ptr()
    floating = images.float()
    before = floating.clone()
    for x, y in Batches(floating, labels := LABELS.clone(), batch_size=5):
        x.zero_()
        y.zero_()
    assert torch.equal(floating, before)
    assert torch.equal(labels, LABELS)


def test_no_images_no_batches(images):
    empty = Split(images[:0], LABELS[:0])
    assert list(Batches(empty, batch_size=5, shuffle=True, binarize="fixed")) == []


def test_data_that_does_not_fit_stays_and_travels_by_batch(images, monkeypatch):
    monkeypatch.setattr(batches, "_fits", lambda *args: False)
    loader = Batches(images, LABELS, batch_size=5, device="meta")
    assert loader.x.device.type == "cpu"
    assert all(tensor.device.type == "meta" for batch in loader for tensor in batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("of", ["cpu", "cuda"])
def test_on_a_cuda_device(images, of):
    def build(seed):
        source = torch.Generator(of).manual_seed(seed)
        return Batches(
            images, LABELS, batch_size=5, shuffle=True, device="cuda", generator=source, binarize="per-epoch"
        )

    loader, other = build(0), build(1)
    assert loader.x.is_cuda
    assert next(iter(loader)).x.is_cuda
    other.load_state_dict(loader.state_dict())
    assert same(list(other), list(loader)[1:]) is False  # a new epoch began
    loader = build(0)
    iterator = iter(loader)
    next(iterator)
    other.load_state_dict(loader.state_dict())
    assert same(list(other), list(iterator))


# order


def test_each_epoch_is_a_new_permutation_and_labels_stay_with_their_images(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    orders = []
    for _ in range(3):
        x, y = epoch(loader)
        assert y.sort().values.tolist() == list(range(COUNT))
        assert torch.equal(x, images[y].float() / 255)
        orders.append(tuple(y.tolist()))
    assert len(set(orders)) == 3
    again = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    assert [tuple(epoch(again)[1].tolist()) for _ in range(3)] == orders
    other = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator(1))
    assert tuple(epoch(other)[1].tolist()) != orders[0]


def test_an_epoch_left_early_is_followed_by_a_new_one(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    first = next(iter(loader)).labels
    second = epoch(loader)[1]
    assert len(second) == COUNT
    assert not torch.equal(first, second[:5])


def test_default_generator_follows_the_global_seed_and_only_if_needed(images):
    def order(seed, **options):
        torch.manual_seed(seed)
        return epoch(Batches(images, LABELS, batch_size=5, **options))[1].tolist(), torch.rand(()).item()

    assert order(3, shuffle=True) == order(3, shuffle=True)
    assert order(3, shuffle=True) != order(4, shuffle=True)
    torch.manual_seed(3)
    untouched = torch.rand(()).item()
    assert order(3)[1] == untouched
    assert order(3, shuffle=True)[1] != untouched
    given = order(3, shuffle=True, generator=generator())
    assert given[1] == untouched


# binarization


def grey(value, count=4000):
    return torch.full((count, 1, 2, 2), value, dtype=torch.uint8)


def test_threshold():
    x, _ = epoch(
        Batches(torch.tensor([[0], [127], [128], [255]], dtype=torch.uint8), batch_size=3, binarize="threshold")
    )
    assert x.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]
    half, _ = epoch(Batches(torch.tensor([[0.5], [0.5001]]), batch_size=3, binarize="threshold"))
    assert half.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("binarize", ["per-epoch", "fixed"])
@pytest.mark.parametrize("value", [1, 64, 200, 254])
def test_draws_are_bernoulli_of_the_pixel(binarize, value):
    loader = Batches(grey(value), batch_size=999, binarize=binarize, generator=generator())
    x, _ = epoch(loader)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    p = value / 255
    z = (x.mean().item() - p) / math.sqrt(p * (1 - p) / x.numel())
    assert abs(z) < 5
    assert abs((x.mean().item() - (1 - p)) / math.sqrt(p * (1 - p) / x.numel())) > 5  # black and white not swapped


@pytest.mark.parametrize("binarize", ["threshold", "per-epoch", "fixed"])
@pytest.mark.parametrize("value", [0, 255])
def test_certain_pixels_never_flip(binarize, value):
    x, _ = epoch(Batches(grey(value), batch_size=999, binarize=binarize, generator=generator()))
    assert (x == value / 255).all()


def test_black_stays_black_even_where_the_noise_is_zero(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape))
    for binarize in ("per-epoch", "fixed"):
        assert not epoch(Batches(grey(0), batch_size=999, binarize=binarize))[0].any()
        assert epoch(Batches(grey(1), batch_size=999, binarize=binarize))[0].all()


def test_per_epoch_draws_anew_and_follows_the_generator(images):
    loader = Batches(images, LABELS, batch_size=5, binarize="per-epoch", generator=generator())
    first, second = epoch(loader)[0], epoch(loader)[0]
    assert not torch.equal(first, second)
    assert torch.equal(epoch(Batches(images, batch_size=5, binarize="per-epoch", generator=generator()))[0], first)
    assert not torch.equal(epoch(Batches(images, batch_size=5, binarize="per-epoch", generator=generator(1)))[0], first)


def test_fixed_is_the_same_for_everybody():
    images = (torch.arange(2500 * 4) % 256).to(torch.uint8).view(2500, 1, 2, 2)
    x, _ = epoch(Batches(images, batch_size=7, binarize="fixed"))
    for options in ({"batch_size": 64}, {"batch_size": 7, "shuffle": True, "generator": generator(5)}):
        loader = Batches(images, torch.arange(2500), binarize="fixed", **options)
        for _ in range(2):
            again, rows = epoch(loader)
            assert torch.equal(again, x[rows])
    assert torch.equal(epoch(Batches(images[:1100], batch_size=7, binarize="fixed"))[0], x[:1100])
    assert torch.equal(epoch(Batches(images.float() / 255, batch_size=7, binarize="fixed"))[0], x)
    recorded = "bb6bd3d9ab5eb6377f22cdeca9d08b0cd26cb842047e3bbd0c796d01ad3dc0ab"
    assert hashlib.sha256(x.to(torch.uint8).numpy().tobytes()).hexdigest() == recorded


# exact resume


OPTIONS = [
    {"shuffle": shuffle, "binarize": binarize}
    for shuffle in (True, False)
    for binarize in ("none", "per-epoch", "fixed")
]


def through_a_file(state):
    """As a checkpoint does it: tensors in safetensors, the rest in JSON."""
    tensors = load_tensors(save_tensors({k: v for k, v in state.items() if isinstance(v, torch.Tensor)}))
    return tensors | json.loads(json.dumps({k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_resumed_run_is_the_uninterrupted_run(images, options):
    def build(seed):
        return Batches(images, LABELS, batch_size=5, generator=generator(seed), **options)

    whole = build(0)
    epochs = [list(whole) for _ in range(4)]
    for position in range(len(whole) + 1):
        interrupted = build(0)
        list(interrupted)
        iterator = iter(interrupted)
        assert same([next(iterator) for _ in range(position)], epochs[1][:position])
        state = through_a_file(interrupted.state_dict())
        assert all(type(value) is int or value.dtype == torch.uint8 for value in state.values())
        resumed = build(99)
        resumed.load_state_dict(state)
        assert same(list(resumed), epochs[1][position:])
        assert same(list(resumed), epochs[2])
        assert same(list(resumed), epochs[3])
        assert same(list(iterator), epochs[1][position:])  # taking the state disturbed nothing
        assert same(list(interrupted), epochs[2])


def test_resume_without_the_state_differs(images):  # negative control of the test above
    options = {"batch_size": 5, "shuffle": True, "binarize": "per-epoch"}
    loader, other = (Batches(images, LABELS, generator=generator(seed), **options) for seed in (0, 99))
    assert not same(list(loader), list(other))
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    other.load_state_dict(state | {"generator_now": state["generator"]})
    assert not same(list(other), list(iterator))


def test_state_after_the_last_batch_and_after_the_epoch(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    for _ in loader:
        inside = loader.state_dict()
    after = loader.state_dict()
    assert (inside["position"], after["position"]) == (len(loader), 0)
    second = list(loader)
    resumed = Batches(images, LABELS, batch_size=5, shuffle=True)
    resumed.load_state_dict(inside)
    assert list(resumed) == []  # nothing of that epoch is left
    assert same(list(resumed), second)
    resumed.load_state_dict(after)
    assert same(list(resumed), second)


def test_loaded_state_is_the_state(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, binarize="per-epoch", generator=generator())
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    remaining = list(iterator)
    resumed = Batches(images, LABELS, batch_size=5, shuffle=True, binarize="per-epoch")
    for _ in range(2):  # saved again before a batch is served, and loaded twice
        resumed.load_state_dict(state)
        again = resumed.state_dict()
        assert again.keys() == state.keys()
        assert all(torch.equal(torch.as_tensor(again[key]), torch.as_tensor(state[key])) for key in state)
        state = again
    assert same(list(resumed), remaining)
    iterator = iter(resumed)
    next(iterator)
    resumed.load_state_dict(state)  # back to an earlier point, in the middle of another epoch
    assert same(list(resumed), remaining)


def test_a_resumed_epoch_left_early_is_followed_by_a_new_one(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    first, second = list(loader), list(loader)
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    next(iter(loader))
    resumed = Batches(images, LABELS, batch_size=5, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert same([next(iter(resumed))], first[1:2])
    assert same(list(resumed), second)


def test_resumed_twice_within_an_epoch(images):
    def build():
        return Batches(images, LABELS, batch_size=3, shuffle=True, binarize="per-epoch", generator=generator())

    whole, served, state = list(build()), [], None
    for _ in range(4):
        loader = build()
        if state is not None:
            loader.load_state_dict(state)
        iterator = iter(loader)
        served += [next(iterator), next(iterator)]
        state = loader.state_dict()
    assert same(served, whole)
    assert len(whole) == 8


def test_bad_states_change_nothing(images):
    loader = Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator())
    good = loader.state_dict()
    expected = list(Batches(images, LABELS, batch_size=5, shuffle=True, generator=generator()))
    zeros = torch.zeros_like(good["generator"])
    other = generator(1).get_state()
    for bad in (
        {},
        good | {"position": 6},
        good | {"position": -1},
        good | {"position": "2"},
        good | {"generator": good["generator"][:7]},
        good | {"generator_now": good["generator"].float()},
        good | {"generator_now": zeros},
        {"generator": other, "generator_now": None, "position": 1},
    ):
        with pytest.raises(DataError):
            loader.load_state_dict(bad)
    assert same(list(loader), expected)


# bad input


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_size_too_small(images, batch_size):
    with pytest.raises(ConfigError, match=f"batch_size must be at least 1, got {batch_size}"):
        Batches(images, batch_size=batch_size)


def test_unknown_binarization_suggests(images):
    with pytest.raises(ConfigError, match="unknown binarization 'fixd'; did you mean 'fixed'"):
        Batches(images, batch_size=5, binarize="fixd")


def test_only_unit_values_are_binarized():
    for value in (255.0, -0.1, math.nan):
        with pytest.raises(DataError, match=r"values must be in \[0, 1\]"):
            Batches(torch.tensor([[0.5, value]]), batch_size=1, binarize="threshold")


@pytest.mark.parametrize(
    ("options", "fault", "message"),
    [
        ({"binarize": None}, ConfigError, "unknown binarization 'None'"),
        ({"value_kind": "count"}, ConfigError, "unknown value_kind 'count'; did you mean 'counts'"),
        ({"generator": 3}, ConfigError, r"generator must be a torch\.Generator, got 3; pass torch\.Generator\(\)"),
        ({"device": "cudaa"}, DeviceError, "device 'cudaa' is not here"),
    ],
)
def test_words_that_mean_nothing_are_refused(images, options, fault, message):
    with pytest.raises(fault, match=message):
        Batches(images, batch_size=5, **options)


def test_a_batch_takes_all_but_x_by_name() -> None:
    batch = Batch(torch.zeros(2, 3), labels=torch.tensor([0, 1]))
    with pytest.raises(TypeError):
        Batch(*batch)  # the labels were the context
    x, labels = batch
    assert x is batch.x and labels is batch.labels and batch.rows(slice(1)).labels is not None


def test_batches_and_their_rows_print_in_one_line(images):
    batches = Batches(images, LABELS, batch_size=5, shuffle=True)
    shape = "×".join(map(str, images.shape[1:]))
    assert repr(batches) == f"Batches(23 rows of {shape}, uint8; batches of 5, shuffled)"
    assert repr(batches.rows([0, 1])) == f"Batch(2 rows of {shape}, float32, with labels)"


def test_tensors_that_do_not_fit(images):
    with pytest.raises(DataError, match=r"uint8 or floating-point, got .* torch\.int64"):
        Batches(images.long(), batch_size=5)
    with pytest.raises(DataError, match="22 labels for 23 rows"):
        Batches(images, LABELS[1:], batch_size=5)
    with pytest.raises(DataError, match=r"a Split brings its own labels; .* pass Split\(x, labels\)"):
        Batches(Split(images), LABELS, batch_size=5)
    with pytest.raises(DataError, match=r"labels must be \(23,\)"):
        Split(images, LABELS[1:])
    with pytest.raises(DataError, match=r"values must be \(N, …\), such as images \(N, C, H, W\) or vectors"):
        Split(LABELS / 1, LABELS)


def test_chosen_rows_begin_at_their_first_batch_and_leave_the_others_alone(images):
    options = {"batch_size": 5, "shuffle": True}
    batches = Batches(images, LABELS, generator=torch.Generator().manual_seed(1), **options)
    left = iter(batches)
    next(left)
    batches.load_state_dict(batches.state_dict())
    some = batches.select(torch.arange(8))
    assert len(list(some)) == len(some) == 2
    twin = Batches(images, LABELS, generator=torch.Generator().manual_seed(1), **options)
    served = [batch.labels for batch in twin][1:]
    assert all(torch.equal(a.labels, b) for a, b in zip(batches, served, strict=True))

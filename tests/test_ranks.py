"""Several ranks: they give the result of one, refuse what they would not, and a dead one costs nothing that was saved."""

import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ranked
import tiny
import vaekit
from vaekit.errors import ConfigError, DeviceError
from vaekit.objectives import OfDraw, beta_tc, elbo, free_bits, iwae, mmd
from vaekit.runs import job, lifecycle
from vaekit.store import Run
from vaekit.training import ALONE, Ranks
from vaekit.training.clock import CheckClock
from vaekit.training.launch import _see_one_gpu
from vaekit.training.noise import NoiseOfRows
from vaekit.training.ranks import check_ranks

SCRIPT = Path(ranked.__file__)


def torchrun(ranks: int, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", SCRIPT]
    names = {"PYTHONPATH": os.pathsep.join([str(Path(vaekit.__file__).parents[1]), *sys.path]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **names, **environment},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Greatest relative difference of two sets of weights, by tensor."""
    assert one.keys() == other.keys()
    sizes = {name: one[name].double().norm().clamp_min(1e-12) for name in one}
    return max(float((one[name].double() - other[name].double()).norm() / sizes[name]) for name in one)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_give_the_result_of_one(tmp_path: Path, world: int) -> None:
    """In float64, with a last batch smaller than the number of ranks; the classic mistake is seen."""
    process = torchrun(world, "--prove", tmp_path)
    expected = {name: case(ALONE) for name, case in ranked.CASES.items()}
    status, _, err = ended(process)
    assert status == 0, err
    found = [torch.load(tmp_path / f"{world}-{rank}.pt") for rank in range(world)]
    for name, one in expected.items():
        off = max(distance(one["weights"], rank[name]["weights"]) for rank in found)
        if name == "without slicing":
            assert off > 1e-2
            continue
        assert off < 1e-8, name
        for rank in found:
            assert [list(record) for record in rank[name]["records"]] == [list(record) for record in one["records"]]
            for record, same in zip(rank[name]["records"], one["records"], strict=True):
                assert record == pytest.approx(same, rel=1e-8), name
    assert expected["skipped"]["records"][0]["skipped"] == 1
    for rank in found:
        assert re.match("ConfigError: the . ranks have drifted apart", rank["drift"])


def test_a_dead_rank_ends_the_job_and_any_number_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["train", "--runs", tmp_path, "--config", config_file(tmp_path)]
    status, out, err = ended(torchrun(2, *options, "--name", "a", KILL_AT="13"))
    assert status != 0
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith("vae: ")]
    assert len(told) == 1
    assert "a rank died" in told[0]
    assert told[0].endswith("resume a to continue from there, with any number of ranks (`vae resume a`)")
    run = Run.open("a", root=tmp_path)
    assert run.status == "interrupted"
    assert run.environment["ranks"] == 2
    assert 0 < run.load_checkpoint().state["progress"]["step"] <= 13

    status, out, err = ended(torchrun(3, "resume", "a", "--runs", tmp_path))
    assert status == 0, err
    assert out.count("test −ELBO") == 1
    assert err.count("epoch 4/") == 1
    assert err.count("ranks 2 → 3") == 1
    assert run.status == "finished"

    with monkeypatch.context() as patch:
        patch.setattr(job, "load_data", tiny.dataset)
        patch.setattr(job, "draw_pictures", lambda *_, **__: [])
        one = lifecycle.train_run(vaekit.config.read(file=config_file(tmp_path)), name="one", root=tmp_path)
    times = ("seconds", "rows_per_second")
    for record, same in zip(run.metrics(), one.metrics(), strict=True):
        assert {k: v for k, v in record.items() if k not in times} == pytest.approx(
            {k: v for k, v in same.items() if k not in times}, rel=1e-2
        )
    assert run.read_json("test.json")["neg_elbo"] == pytest.approx(one.read_json("test.json")["neg_elbo"], rel=1e-2)
    assert distance(*(found.load_checkpoint("best").tensors for found in (one, run))) < 5e-2


def config_file(folder: Path) -> Path:
    sections = {**tiny.SECTIONS, "encoder": {"hidden": [4]}, "train": tiny.SECTIONS["train"] | {"precision": "fp32"}}
    path = folder / "tiny.toml"
    path.write_text(vaekit.config.read("standard-vae", sections=sections).to_toml())
    return path


def test_a_config_that_cannot_be_is_refused_once(tmp_path: Path) -> None:
    status, out, err = ended(torchrun(2, "train", "--runs", tmp_path, "--set", "objective.name=free-bits"))
    assert status != 0
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith("vae: ")]
    assert told == [
        "vae: error: free-bits compares the rows of a batch with one another, and 2 ranks see only their own; train with "
        "one rank, or choose another objective"
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_request_to_stop_reaches_all_ranks(tmp_path: Path) -> None:
    options = ["train", "--runs", tmp_path, "--config", config_file(tmp_path), "--epochs", "100000", "--name", "a"]
    process = torchrun(2, *options)
    while not (tmp_path / "a" / "metrics.jsonl").exists() or not (tmp_path / "a" / "metrics.jsonl").read_bytes():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    status, _, err = ended(process)
    assert status != 0
    told = [line for line in err.splitlines() if line.startswith("vae: ")]
    assert len(told) == 1
    assert re.match(r"vae: stopped at epoch \d+, step \d+; `vae resume` continues", told[0])
    assert Run.open("a", root=tmp_path).status == "interrupted"


@pytest.mark.parametrize("objective", [free_bits, beta_tc, mmd])
def test_objectives_that_compare_rows_take_one_rank(objective) -> None:
    model = vaekit.VAE(64)
    with pytest.raises(ConfigError, match="compares the rows"):
        check_ranks(Ranks(0, 2), model, OfDraw(objective))
    check_ranks(ALONE, model, OfDraw(objective))
    check_ranks(Ranks(0, 2), model, OfDraw(iwae))


def test_a_scale_of_the_whole_batch_takes_one_rank() -> None:
    model = vaekit.build("standard-vae", likelihood={"name": "normal", "scale": "optimal"})
    with pytest.raises(ConfigError, match=r"Normal learns from whole batches.*set scale = 'shared'"):
        check_ranks(Ranks(0, 2), model, OfDraw(elbo))
    check_ranks(Ranks(0, 2), vaekit.build("standard-vae", likelihood="normal"), OfDraw(elbo))


def test_batch_normalization_on_a_cpu_takes_one_rank() -> None:
    model = ranked.preset("standard-vae", encoder={"hidden": [4], "norm": "batch"})()
    with pytest.raises(ConfigError, match="batch normalization over 2 ranks needs CUDA"):
        check_ranks(Ranks(1, 2), model, OfDraw(elbo))
    check_ranks(ALONE, model, OfDraw(elbo))


def test_batch_normalization_is_made_to_see_all_ranks() -> None:
    """On CUDA; here only that the weights and their names stay, as the optimizer and the checkpoints need."""
    model = ranked.preset("standard-vae", encoder={"hidden": [4], "norm": "batch"})()
    weights, names = [*model.parameters()], [*model.state_dict()]
    Ranks(0, 2).convert_batch_norm(model)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert [*model.state_dict()] == names
    assert all(one is other for one, other in zip(model.parameters(), weights, strict=True))


def test_a_device_that_ranks_do_not_share_is_refused() -> None:
    with pytest.raises(DeviceError, match="2 ranks need"):
        check_ranks(Ranks(0, 2), vaekit.VAE(64).to("meta"), OfDraw(elbo))


@pytest.mark.parametrize("total", [1, 3, 7, 8])
def test_shares_are_a_partition(total: int) -> None:
    rows = torch.arange(total)
    shares = [Ranks(rank, 4).shard((rows, rows), 1) for rank in range(4)]
    counting = [share.batch.x for share in shares if share.counts]
    assert torch.equal(torch.cat(counting), rows)
    sizes = [len(some) for some in counting] + [0] * (4 - len(counting))
    assert max(sizes) - min(sizes) <= 1
    assert all(len(share.batch.labels) >= 1 and share.total == total for share in shares)


DRAWS = {
    "randn": lambda x: torch.randn(x.shape),
    "rand by numbers": lambda x: torch.rand(*x.shape),
    "randint": lambda x: torch.randint(9, x.shape),
    "normal by size": lambda x: torch.normal(1.0, 2.0, size=x.shape),
    "normal of tensors": lambda x: torch.normal(x, x.abs()),
    "randn_like": torch.randn_like,
    "normal_": lambda x: torch.empty_like(x).normal_(),
    "exponential_": lambda x: torch.empty_like(x).exponential_(2.0),
    "bernoulli": lambda x: torch.bernoulli(x.abs().clamp_max(1)),
    "dropout": torch.nn.functional.dropout,
    "dropout1d": torch.nn.functional.dropout1d,
    "alpha_dropout": lambda x: torch.nn.functional.alpha_dropout(x, training=True),
    "gumbel_softmax": torch.nn.functional.gumbel_softmax,
    "multinomial": lambda x: torch.multinomial(x.flatten(1).abs(), 2, replacement=True),
    "rsample": lambda x: torch.distributions.Normal(x, 1.0).rsample(),
}


LEADS = [(3, 7), (7,), (21,)]
ONE_LEADING = ("dropout1d", "multinomial")  # functions that know one dimension of rows only


@pytest.mark.parametrize(
    ("name", "lead"), [(name, lead) for name in DRAWS for lead in (LEADS[1:] if name in ONE_LEADING else LEADS)]
)
def test_rows_get_the_noise_of_the_whole_batch(name: str, lead: tuple[int, ...]) -> None:
    """K = 3 samples of 7 rows, of which 2 are this rank's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*lead, 5, 6, generator=generator)
    blocks = 1 if lead == (7,) else 3
    part = x.reshape(blocks, 7, 5, 6)[:, 2:4]
    part = part.reshape(*{(3, 7): (3, 2), (7,): (2,), (21,): (6,)}[lead], 5, 6)
    torch.manual_seed(1)
    whole = DRAWS[name](x)
    torch.manual_seed(1)
    with NoiseOfRows(3, slice(2, 4), 7):
        some = DRAWS[name](part)
    after = torch.rand(())
    expected = whole.reshape(blocks, 7, -1)[:, 2:4].reshape(some.shape)
    assert torch.equal(some, expected)
    torch.manual_seed(1)
    DRAWS[name](x)
    assert torch.rand(()) == after  # the stream stands where it would


def test_noise_keeps_its_gradient_and_other_shapes_are_left_alone() -> None:
    x = torch.ones(2, 5, requires_grad=True)
    with NoiseOfRows(1, slice(0, 2), 3):
        torch.nn.functional.dropout(x).sum().backward()
        torch.manual_seed(0)
        free = torch.randn(4)
    assert x.grad is not None and set(x.grad.unique().tolist()) <= {0.0, 2.0}
    torch.manual_seed(0)
    assert torch.equal(free, torch.randn(4))


def test_every_rank_draws_the_same_noise_for_weights_with_as_many_rows_as_its_share() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 3))
    draws = (
        torch.nn.functional.dropout,
        torch.randn_like,
        lambda w: torch.normal(0.0, w),
        lambda w: torch.normal(w, 1.0),
    )
    for draw in draws:
        torch.manual_seed(0)
        alone = draw(weight)
        for rows in (slice(0, 4), slice(4, 8)):
            torch.manual_seed(0)
            with NoiseOfRows(1, rows, 8):
                assert torch.equal(draw(weight), alone)
    rows_of_that_shape = weight.detach()  # negative control: they have noise of their own
    torch.manual_seed(0)
    with NoiseOfRows(1, slice(4, 8), 8):
        assert not torch.equal(torch.normal(rows_of_that_shape, 1.0), alone)


def test_noise_that_rows_cannot_share_is_refused() -> None:
    with NoiseOfRows(1, slice(0, 2), 3), pytest.raises(ConfigError, match="standard_gamma"):
        torch.distributions.Gamma(torch.ones(2), torch.ones(2)).sample()


def test_looks_of_ranks_follow_the_clock_by_counting_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("vaekit.training.clock.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(Ranks, "broadcast", lambda self, value: value)
    clock, at = CheckClock(Ranks(0, 2), 0.25, []), []
    for step in range(1, 400):
        now[0] += 0.01
        if clock.due():
            at.append(step)
            clock.end()
    assert at[:5] == [1, 3, 7, 15, 31]
    assert {b - a for a, b in itertools.pairwise(at[6:])} <= {24, 25, 26}


def test_outside_of_torchrun_there_is_one_rank() -> None:
    from vaekit.training import joined

    with joined() as ranks:
        assert ranks == ALONE
    share = ALONE.shard((torch.ones(3), torch.ones(3)), 1)
    assert isinstance(share.noise, contextlib.nullcontext)
    assert share.total == 3


@pytest.mark.parametrize(
    ("devices", "visible", "ranks", "sees"),
    [(4, None, 2, "1"), (2, "5,7", 2, "7"), (2, "GPU-a,GPU-b", 2, "GPU-b"), (0, None, 2, None)],
)
def test_each_rank_sees_the_gpu_of_its_number(monkeypatch, devices, visible, ranks, sees) -> None:
    gpus(monkeypatch, devices, visible, ranks)
    assert _see_one_gpu() == (devices > 0)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == sees


def test_too_few_gpus_are_left_alone_and_said(monkeypatch) -> None:
    gpus(monkeypatch, 1, None, 2)
    with pytest.warns(UserWarning, match="2 ranks on a machine with 1 GPU"):
        assert not _see_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def gpus(monkeypatch, devices: int, visible: str | None, ranks: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))

"""Data of one's own as people have them: numbers of any meaning, photos, masks, pipes, files that change."""

import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import vaekit
from vaekit import build, config
from vaekit.config.recipe import Recipe
from vaekit.data import Dataset, Split, load
from vaekit.data.by_name import _keep
from vaekit.data.by_path import open_all
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.run_evaluation import evaluate_run
from vaekit.evaluation.single_rows import named_rows, scoring
from vaekit.runs import job, lifecycle, repetition, restore, run_config
from vaekit.store import Run

R = np.random.default_rng(0)
COUNTS = R.poisson(40, (60, 12))
TINY: dict[str, Any] = {
    "model": {"latent_size": 2},
    "encoder": {"hidden": [4]},
    "decoder": {"hidden": [4]},
    "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
}


def photos(folder: Path, count: int = 30, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(R.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"p{i:02d}.{suffix}")
    return folder


def trained(path: Path, root: Path, **sections: Any) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "draw_pictures", lambda *_, **__: [])
        settings = config.read("vae", sections=TINY | {"data": {"name": str(path)}} | sections)
        return lifecycle.train_run(settings, name="r", root=root)


def rows(data: Any) -> torch.Tensor:
    return torch.cat([split.x[:].flatten(1) for split in data.splits.values()])


# what numbers mean


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4"])
@pytest.mark.parametrize("memory", [None, 0])
def test_counts_are_read_as_they_are(tmp_path: Path, dtype: str, memory: float | None) -> None:
    np.save(tmp_path / "x.npy", COUNTS.astype(dtype))
    data = load(tmp_path / "x.npy", value_kind="counts", memory=memory)
    assert data.kind == "vector"
    assert sorted(rows(data).tolist()) == sorted(COUNTS.astype(float).tolist())


def test_real_numbers_are_read_as_they_are_and_bytes_are_pixels(tmp_path: Path) -> None:
    real = R.normal(size=(60, 1, 10))
    np.save(tmp_path / "x.npy", real)
    np.save(tmp_path / "b.npy", COUNTS.astype("u1"))
    assert sorted(rows(load(tmp_path / "x.npy", value_kind="real")).tolist()) == sorted(
        real[:, 0].astype("f4").tolist()
    )
    assert load(tmp_path / "b.npy", value_kind="real").train.x.dtype == torch.uint8


BAD: list[tuple[np.ndarray, str, str]] = [
    (R.normal(size=(60, 4)), "pixels", r"floats must be in .0, 1.*'normal'.*'poisson'"),
    (COUNTS, "pixels", r"must be uint8, or floats in .0, 1., got int64"),
    (COUNTS + 0.5, "counts", r"x.npy takes counts, whole numbers ≥ 0, got \d+.5"),
    (-COUNTS, "counts", "takes counts, whole numbers ≥ 0, got -"),
    (np.full((60, 4), np.inf), "real", "takes finite numbers, got .inf, inf."),
    (np.array([["a"] * 4] * 60), "real", "values must be numbers, got <U1"),
]


@pytest.mark.parametrize(("array", "values", "message"), BAD)
@pytest.mark.parametrize("memory", [None, 0])
def test_other_numbers_are_refused_in_one_line(
    tmp_path: Path, array: np.ndarray, values: Any, message: str, memory: float | None
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message) as error:
        rows(load(tmp_path / "x.npy", value_kind=values, memory=memory))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "likelihood"),
    [(COUNTS, "poisson"), (COUNTS.astype("u1"), "negative-binomial"), (R.normal(size=(60, 12)), "laplace")],
)
def test_a_run_reads_what_its_likelihood_takes(tmp_path: Path, array: np.ndarray, likelihood: str) -> None:
    np.save(tmp_path / "x.npy", array)
    run = trained(tmp_path / "x.npy", tmp_path, likelihood={"name": likelihood})
    assert run.metrics()[-1]["neg_elbo"] < 1e4
    every = named_rows.rows_of(run, str(tmp_path / "x.npy"))
    assert torch.equal(every.split.x[:], torch.from_numpy(array.astype("f4")))
    assert named_rows.encode_rows(vaekit.load(run), every).isfinite().all()


def test_the_encoder_of_counts_sees_their_logarithm() -> None:
    x = torch.poisson(torch.full((5, 12), 4e4))
    for encoder in ("mlp",):
        model: Any = build("vae", event_shape=12, likelihood="poisson", encoder={"name": encoder, "hidden": [4]})
        raw: Any = build("vae", event_shape=12, likelihood={"name": "poisson", "log1p": False}, encoder={"hidden": [4]})
        raw.load_state_dict(model.state_dict())
        assert torch.equal(model.posterior(x).mean, raw.posterior(x.log1p()).mean)
        net = model.parts["posterior"].net
        assert torch.equal(net.maps(x)[-1], net(x))


def test_large_counts_train() -> None:
    x = torch.poisson(torch.full((300, 50), 500.0))
    for name in ("poisson", "negative-binomial"):
        torch.manual_seed(0)
        from vaekit import fit

        model = build("vae", event_shape=50, likelihood=name, model={"init": "he"}, x=x)
        assert fit(model, x, epochs=2, batch_size=50)[-1]["rate"] < 1e4


# masks, photos, folders


def test_masks_are_black_and_white(tmp_path: Path) -> None:
    mask = R.random((40, 8, 8)) > 0.5
    for name, array in (("bool", mask), ("int", mask.astype(int)), ("u2", mask.astype("u2") * 65535)):
        np.save(tmp_path / f"{name}.npy", array)
        images = load(tmp_path / f"{name}.npy").train.x[:]
        assert set(images.unique().tolist()) == {0.0, 1.0}, name
    np.save(tmp_path / "u1.npy", mask.astype("u1"))
    with pytest.warns(UserWarning, match="the greatest value is 1 of 255, almost black; save masks of 0 and 1 as bool"):
        load(tmp_path / "u1.npy")
    (tmp_path / "f").mkdir()
    for i in range(4):
        Image.fromarray(mask[i].astype("u1")).save(tmp_path / "f" / f"{i}.png")
    with pytest.warns(UserWarning, match="greatest value is 1 of 255"):
        load(tmp_path / "f")


@pytest.mark.parametrize("size", [None, 8])
def test_photos_are_upright(tmp_path: Path, size: int | None) -> None:
    for i in range(4):
        image = Image.new("L", (24, 24))
        image.paste(255, (0, 0, 24, 6))
        exif = Image.Exif()
        if i % 2:
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        image.save(tmp_path / f"{i}.jpg", exif=exif)
    assert (open_all(str(tmp_path), size=size).split.x[:].float()[:, 0, 0].mean(1) > 200).all()


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    for i, mode in enumerate(("RGBA", "LA", "RGBA")):
        Image.new(mode, (4, 4), (0,) * len(mode)).save(tmp_path / f"{i}.png")
    assert (open_all(str(tmp_path)).split.x[:] == 255).all()


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (255, 0, 0)), ("L", 40)])
@pytest.mark.parametrize("size", [None, 4])
def test_a_colour_that_is_declared_transparent_is_white(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], size: int | None
) -> None:
    for i in range(2):
        Image.new(mode, (4, 4), colour).save(tmp_path / f"{i}.png", transparency=colour)
    x = open_all(str(tmp_path), size=size).split.x
    assert (x[torch.arange(2)] == 255).all() and x.shape[1] == len(mode)


@pytest.mark.parametrize(
    "folders", [["train/good", "test/bad", "ground_truth/bad"], ["train/ok", "train/bad"], ["test"]]
)
def test_splits_are_no_classes(tmp_path: Path, folders: list[str]) -> None:
    for folder in folders:
        photos(tmp_path / folder, 3)
    with pytest.raises(DataError, match="look like splits, not classes; pass one of them"):
        load(tmp_path)
    assert load(tmp_path / "test" if folders == ["test"] else tmp_path / "train").train.x.shape[1:] == (3, 8, 8)


def test_classes_are_the_labels_that_occur(tmp_path: Path) -> None:
    years = np.array([2019, 2021, 2020] * 20)
    np.savez(tmp_path / "x.npz", images=R.random((60, 4, 4)), labels=years)
    data = load(tmp_path / "x.npz")
    assert data.classes == ("2019", "2020", "2021")
    assert set(torch.cat([split.labels for split in data.splits.values()]).tolist()) == {0, 1, 2}
    every = open_all(str(tmp_path / "x.npz"))
    assert [every.classes[label] for label in every.split.labels.tolist()] == years.astype(str).tolist()


# hostile and unlucky files


def test_no_other_decoder_is_started(tmp_path: Path) -> None:
    photos(tmp_path / "f", 4)
    (tmp_path / "f" / "zz.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"zz.png: cannot be read as an image \(it is not one of: PNG, JPEG"):
        load(tmp_path / "f")


@pytest.mark.parametrize("what", ["image", "labels", "array", "archive"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, what: str) -> None:
    folder = photos(tmp_path / "f", 4)
    np.save(tmp_path / "x.npy", COUNTS.astype("u1"))
    pipe = {"image": folder / "a.png", "labels": tmp_path / "x-labels.npy", "array": tmp_path / "y.npy"}
    path = pipe.get(what, tmp_path / "y.npz")
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"is not a regular file|must be a folder"):
        load({"image": folder, "labels": tmp_path / "x.npy"}.get(what, path))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_no_more_of_a_header_is_read_than_numpy_allows(tmp_path: Path, kind: str) -> None:
    import resource

    start = b"\x93NUMPY\x02\x00" + struct.pack("<I", 400_000_000)
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        with open(path, "wb") as file:
            file.write(start)
            file.truncate(400_000_100)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
            member.write(start)
            for _ in range(400):
                member.write(bytes(1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="header of 400000000 bytes is longer than 10000"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_gets_shorter_is_an_error_and_no_signal(tmp_path: Path, order: Any) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.asarray(R.integers(0, 256, (500, 40, 40), np.uint8), order=order))
    images = load(path, memory=0).train.x
    assert images[:3].shape == (3, 1, 40, 40)
    os.truncate(path, 4096)
    with pytest.raises(DataError, match="is shorter than it was when it was opened"):
        images[:]


def test_what_is_cached_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        _keep(bytearray(b"x"), tmp_path / "new" / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o644


# the data of a run


def test_a_path_always_means_all_its_images_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    run = trained(Path("photos"), tmp_path)
    for name in ("photos", "photos/", "./photos", str(tmp_path / "photos")):
        found = named_rows.rows_of(run, name)
        assert len(found) == 30
        assert found.names[0] == "p00.png"
    assert len(named_rows.rows_of(run)) == 3
    assert run_config.config_of(run).data.name == str(tmp_path / "photos")
    monkeypatch.chdir("/")
    assert len(named_rows.rows_of(run)) == 3


def test_a_folder_that_grew_is_no_test_set(tmp_path: Path, command) -> None:
    folder = photos(tmp_path / "photos")
    run, model = trained(folder, tmp_path), None
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "new.png")
    model = vaekit.load(run)
    message = r"have changed since run r was trained on them \(30 rows then, 31 now\)"
    for use in (lambda: evaluate_run(run, model, samples=2), lambda: named_rows.rows_of(run)):
        with pytest.raises(DataError, match=message):
            use()
    assert len(named_rows.rows_of(run, str(folder))) == 31
    for verb, has_data in (("score", True), ("encode", True), ("reconstruct", False), ("traverse", False)):
        refused = command(verb, "r", "--runs", tmp_path)
        assert refused.status == 2 and ("(--data)" in refused.err) is has_data, refused.err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "draw_pictures", lambda *_, **__: [])
        again = repetition.repeat_run(run, name="again", root=tmp_path)
    assert again.differences["data"][0].startswith("checksum ")


def test_scores_to_compare_with_are_kept_in_the_run(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    run = trained(folder, tmp_path)
    model = vaekit.load(run)
    first, _ = scoring.reference(restore.RestoredRun.of(run), model, most=10, samples=4)
    folder.rename(tmp_path / "elsewhere")
    again, kind = scoring.reference(restore.RestoredRun.of(run), model, most=10, samples=4)
    assert torch.equal(first, again)
    assert not kind.inside
    with pytest.raises(DataError, match=r"photos: no such file.*run r was trained on it"):
        scoring.reference(restore.RestoredRun.of(run), model, most=10, samples=5)


def test_the_config_of_data_by_name_stays_as_it_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Recipe.resolve(config.read("vae")).config.data.name == "mnist"
    with pytest.raises((ConfigError, DataError)):
        load("no/such/path")


def test_images_of_two_channels_train_without_pictures_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    given = tiny.dataset()
    splits = {name: Split(split.x[:].expand(-1, 2, -1, -1), split.labels) for name, split in given.splits.items()}
    data = Dataset.of_splits("pairs", splits, classes=given.classes)
    monkeypatch.setattr(job, "load_data", lambda **_: data)
    run = lifecycle.train_run(tiny.tiny(epochs=1), root=tmp_path)
    assert [path.name for path in run.path.glob("samples/*")] == ["curves.png"]
    assert not [warning for warning in recwarn if "picture" in str(warning.message)]
    assert not data.shows_images and given.shows_images

"""The demo: what it prints, what it writes, and what it says to mistakes."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from jaxpool import POOLS
from jaxpool.demo import _cli, _files, _gallery, _training, main
from jaxpool.demo._modes import MODES

# conv 3x3 1 -> 16, conv 3x3 16 -> 32, dense 2 * 2 * 32 -> 10, each with its bias.
PARAMETERS = (9 * 1 * 16 + 16) + (9 * 16 * 32 + 32) + (128 * 10 + 10)


@pytest.fixture(autouse=True, scope="module")
def usual_promotion():
    """Dtype promotion as users have it: optax relies on it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    folder: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One short run of two modes, neither of them max, and two seeds."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    words = ["--pools", "avg,min", "--seeds", "3", "1", "--epochs", "3", "--out"]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(_training, "TIMING_ROUNDS", 3)
        with redirect_stderr(err):
            assert main([*words, str(folder)]) == 0
    return Finished(folder, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def results(finished):
    return json.loads((finished.folder / "results.json").read_text())


def test_writes_two_files_and_no_more(finished):
    assert sorted(os.listdir(finished.folder)) == ["gallery.png", "results.json"]


def test_prints_a_table_and_progress_bars(finished, results):
    for title in ("training", "timing", "drawing"):
        assert f"{title}: 100%" in finished.err
    lines = finished.out.splitlines()
    assert _cli.format_table(results) in finished.out
    assert str(finished.folder / "gallery.png") in lines[-1]


def test_results_describe_the_run(results):
    assert set(results["versions"]) == {"jaxpool", "jax", "flax"}
    assert results["device"]["platform"] == "cpu"
    data = results["data"]
    assert (data["train_size"], data["test_size"]) == (898, 899)
    training = results["training"]
    assert training["seeds"] == [3, 1] and training["epochs"] == 3
    assert training["pool_window"]["window_shape"] == [2, 2]
    assert results["gallery"]["image"] == "china.jpg"


def test_results_of_each_mode(results):
    assert list(results["modes"]) == ["avg", "min"]
    for entry in results["modes"].values():
        assert [run["seed"] for run in entry["runs"]] == [3, 1]
        for run in entry["runs"]:
            assert 0.25 < run["accuracy"] < 1  # 0.1 is chance
            assert len(run["loss"]) == 3 and run["loss"][-1] < run["loss"][0] < 3
        accuracies = [run["accuracy"] for run in entry["runs"]]
        assert entry["accuracy_mean"] == pytest.approx(np.mean(accuracies))
        assert entry["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
        assert entry["parameters"] == PARAMETERS
        assert 0 < entry["step_seconds"] < 10
        assert 0.01 < entry["step_time_relative_to_max"] < 100


def test_gallery_is_a_picture_with_every_mode(finished):
    with Image.open(finished.folder / "gallery.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    # Three cells of 480 pixels and their margins in a row.
    assert 3 * 480 < width < 4 * 480 and 600 < height < 1000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    assert pixels.std(axis=(0, 1)).min() > 20


def test_table_has_a_line_per_mode_best_first():
    def entry(mean, std, step):
        return {
            "accuracy_mean": mean,
            "accuracy_std": std,
            "step_time_relative_to_max": step,
            "parameters": 6090,
        }

    modes = {"avg": entry(0.91, None, 1.0), "median": entry(0.9512, 0.0123, 3.456)}
    head, *lines = _cli.format_table({"modes": modes}).splitlines()
    assert head.split("  ")[0] == "mode"
    assert [line.split() for line in lines] == [
        ["median", "95.12", "%", "±", "1.23", "3.46", "6,090"],
        ["avg", "91.00", "%", "±", "-", "1.00", "6,090"],
    ]
    assert len({len(line) for line in (head, *lines)}) == 1


def test_same_seed_gives_the_same_run():
    digits = _training.load_digits()
    small = _training.Digits(*(part[:64] for part in digits))
    trainer = _training.make_trainer("max", 4)

    def run(seed):
        return _training.train(
            trainer, small, seed=seed, epochs=2, batch_size=32, on_epoch=lambda: None
        )

    assert run(0).loss == run(0).loss != run(1).loss
    compilations = trainer.step._cache_size()  # pyright: ignore
    assert compilations == 1  # whatever the seed


def test_what_json_cannot_say_is_null():
    run = _training.Run(0, 0.1, [2.0, float("nan")], {}, None)
    entry = _training.summarise([run])
    assert entry["runs"][0]["loss"] == [2.0, None]
    assert entry["accuracy_std"] is None  # of one seed


def test_max_takes_part_in_the_timing_alone(monkeypatch):
    trained = []
    monkeypatch.setattr(_training, "make_trainer", lambda mode, steps: mode)
    monkeypatch.setattr(_training, "train", lambda t, *_, **__: trained.append(t))
    monkeypatch.setattr(_training, "summarise", lambda runs: {})
    times = {"min": 3.0, "max": 2.0}
    monkeypatch.setattr(_training, "time_steps", lambda *_, **__: times)
    options = _cli._parse(["--pools", "min", "--seeds", "0", "--epochs", "1"])
    entries = _cli._compare(options, _training.load_digits())
    assert trained == ["min"]
    assert entries == {"min": {"step_seconds": 3.0, "step_time_relative_to_max": 1.5}}


def test_options_take_commas_and_words_and_drop_repeats():
    options = _cli._parse(
        ["--pools", "max,avg", "min", "--pools", "max", "--seeds", "2,0", "2"]
    )
    assert options.pools == ["max", "avg", "min"]
    assert options.seeds == [2, 0]
    defaults = _cli._parse([])
    assert defaults.pools == list(POOLS) and defaults.seeds == [0, 1, 2]


def check_list(text):
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == list(MODES)
    assert lines[0].split(maxsplit=1)[1] == "Takes the largest element of every window."


def test_list(capsys):
    assert main(["--list"]) == 0
    check_list(capsys.readouterr().out)


def test_runs_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "jaxpool.demo", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    check_list(done.stdout)


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Checks that words are refused with one line, before anything is written."""

    def check(*words, says):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.chdir(tmp_path)
        assert main([str(word) for word in words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("python -m jaxpool.demo: error: ")
        for part in says:
            assert str(part) in line
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pools", "max,maxx"], ["--pools", "'maxx'", ", ".join(MODES)]),
        (["--pools", "a\nb"], ["--pools", "'a'"]),
        (["--pools", ","], ["--pools: nothing given"]),
        (["--pools"], ["--pools"]),
        (["--seeds", "0", "x"], ["--seeds", "'x'", "whole number"]),
        (["--seeds", "-1"], ["--seeds", "'-1'", "from 0"]),
        (["--epochs", "0"], ["--epochs", "'0'", "from 1"]),
        (["--epochs", "1.5"], ["--epochs", "'1.5'"]),
        (["--batch-size", "many"], ["--batch-size", "'many'"]),
        (["--batch-size", "899"], ["--batch-size", "898", "899"]),
        (["--image", "missing.png"], ["--image", "'missing.png'", "No such file"]),
        (["--image", "."], ["--image", "'.'"]),
        (["--unknown"], ["--unknown"]),
        (["stray\nword"], ["stray word"]),
    ],
)
def test_mistakes_are_one_line(refused, words, says):
    refused(*words, says=says)


def test_unreadable_images(refused, tmp_path):
    text, cut, small = (tmp_path / f"{name}.png" for name in ("text", "cut", "small"))
    text.write_text("not a picture")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    Image.fromarray(noise[:15]).save(small)
    refused("--image", text, says=["--image", text, "cannot identify"])
    refused("--image", cut, says=["--image", cut])
    refused("--image", small, says=["--image", small, "64 x 15", "at least 16"])


def test_unwritable_folders(refused, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "gallery.png").mkdir(parents=True)
    taken = tmp_path / "taken"
    long = tmp_path / "new" / ("n" * 300)
    refused("--out", tmp_path / "file", says=["--out", tmp_path / "file"])
    refused("--out", tmp_path / "file" / "sub", says=["--out", "Not a directory"])
    refused("--out", taken, says=["--out", taken / "gallery.png", "is a folder"])
    refused("--out", long, says=["--out", "too long"])


@pytest.mark.parametrize(
    ("module", "name"), [("optax", "optax"), ("sklearn", "scikit-learn")]
)
def test_missing_extras(refused, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    refused(says=[f"{name} not installed", 'pip install "jaxpool[demo]"'])


def test_an_interrupted_run_writes_nothing(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli, "_compare", interrupt)
    assert main(["--out", str(tmp_path / "new" / "folder")]) == 130
    assert "nothing written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("before")
    write = _files.Path.write_bytes

    def full(path, content):
        if content == b"too much":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(_files.Path, "write_bytes", full)
    with pytest.raises(_files.DemoError, match="No space left on device"):
        _files.write_all(tmp_path, {"a": b"after", "b": b"too much"})
    assert (tmp_path / "a").read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_images_of_any_kind(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 90), (60, 1)).round()
    if mode == "I;16":
        image = Image.fromarray((ramp * 256).astype(np.uint16))
    else:
        image = Image.fromarray(ramp.astype(np.uint8)).convert("RGB").convert(mode)
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(path)
    photo = _gallery.load_photo(path)
    assert photo.shape == (60, 88, 3) and photo.dtype == np.float32
    columns = photo.mean((0, 2))
    assert columns[:8].mean() < 0.2 and columns[-8:].mean() > 0.8


def test_transparent_pixels_are_white(tmp_path):
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert _gallery.load_photo(tmp_path / "clear.png").min() == 1


@pytest.mark.parametrize(
    ("size", "shape"),
    [((640, 427), (160, 240)), ((100, 2000), (200, 100)), ((17, 16), (16, 16))],
)
def test_photographs_are_fitted_to_whole_windows(tmp_path, size, shape):
    Image.new("RGB", size).save(tmp_path / "image.png")
    assert _gallery.load_photo(tmp_path / "image.png").shape == (*shape, 3)


def test_every_mode_can_be_trained():
    """One step of each, traced; two are trained above."""
    assert _cli._parse(["--pools", "all"]).pools == list(MODES)
    images = jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32)
    labels = jax.ShapeDtypeStruct((4,), np.int32)
    for mode in MODES:
        trainer = _training.make_trainer(mode, 1)
        start = jax.eval_shape(lambda t=trainer: t.init(0))
        params, state, loss = jax.eval_shape(trainer.step, *start, images, labels)
        assert loss.shape == () and jax.tree.structure((params, state)) == (
            jax.tree.structure(start)
        )


@pytest.mark.parametrize("mode", MODES)
def test_view_of_every_mode_is_finite(mode, monkeypatch):
    monkeypatch.setattr(_gallery, "WINDOW_SHAPE", (2, 2))  # quick to compile
    shown = _gallery.view(mode, _gallery.load_photo(None)[:8, :12])
    assert shown.output.shape[:2] == (4, 6) and shown.gradient.shape == (8, 12)
    assert np.isfinite(shown.output).all() and np.isfinite(shown.gradient).all()


@pytest.mark.parametrize("count", [1, 7, 25])
def test_the_grid_has_room_for_every_cell(count):
    columns, rows = _gallery._grid(count + 1, 1.3)
    assert columns * (rows - 1) < count + 1 <= columns * rows
    assert 0.8 < columns / (1.3 * rows) < 2 or count == 1


def test_a_gallery_of_many_modes_and_of_broken_ones():
    photo = _gallery.load_photo(None)[:24, :36]
    nothing = np.full((4, 6, 3), np.nan)
    broken = _gallery.View("broken", nothing, np.full((24, 36), np.nan))
    flat = _gallery.View("flat", np.ones((4, 6, 3)), np.zeros((24, 36)))
    assert _gallery.draw(photo, [broken, flat] * 13).startswith(b"\x89PNG")

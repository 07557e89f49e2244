"""The command line: checks all it is given, then trains, draws, prints and writes."""

import argparse
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from .. import POOLS
from ._files import DemoError, output_folder, write_all
from ._modes import MODES

PROGRAM = "python -m jaxpool.demo"
RESULTS, GALLERY = "results.json", "gallery.png"
# What the extra `demo` installs: import name, then the name that pip knows.
EXTRAS = {
    "matplotlib": "matplotlib",
    "optax": "optax",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tqdm": "tqdm",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status: 2 for a mistake in `argv`.

    Args:
      argv: the words of the command line; None means those of this process.

    Returns:
      0, or 2 after a one-line message on stderr, or 130 if interrupted.

    Example:
      >>> main(["--pools", "maxx"])  # says on stderr which modes there are
      2
    """
    try:
        options = _parse(argv)
        if options.list:
            print(list_modes())
        else:
            _run(options)
    except DemoError as error:
        message = " ".join(str(error).split())  # one line, whatever it quotes
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


def list_modes() -> str:
    """Lists the pooling modes, one a line, with what each of them does."""
    width = max(map(len, MODES))
    lines = []
    for mode, pool in MODES.items():
        summary = (pool.__doc__ or "").strip().partition("\n")[0]
        lines.append(f"{mode:{width}}  {summary}".rstrip())
    return "\n".join(lines)


def format_table(results: dict[str, Any]) -> str:
    """Formats what `results.json` holds as a table for the terminal, best mode first.

    Args:
      results: the content of `results.json`.

    Returns:
      One line per mode under a line of headings.
    """
    rows = [("mode", "test accuracy ± std", "step time / max", "parameters")]
    modes = results["modes"].items()
    for mode, entry in sorted(modes, key=lambda item: -item[1]["accuracy_mean"]):
        spread = entry["accuracy_std"]
        spread = "   -" if spread is None else f"{100 * spread:4.2f}"
        rows.append(
            (
                mode,
                f"{100 * entry['accuracy_mean']:5.2f} % ± {spread}",
                f"{entry['step_time_relative_to_max']:.2f}",
                f"{entry['parameters']:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DemoError(message)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Trains one small network per pooling mode on real handwritten "
        "digits, and draws what each mode does to a photograph.",
    )
    add = parser.add_argument
    add("--list", action="store_true", help="name the pooling modes and stop")
    add(
        "--pools",
        nargs="+",
        action="extend",
        metavar="MODE",
        help="modes to compare, separated by commas or spaces; all for every mode of "
        "--list (default: those in jaxpool.POOLS)",
    )
    add(
        "--seeds",
        nargs="+",
        action="extend",
        metavar="SEED",
        help="whole numbers, separated by commas or spaces (default: 0 1 2)",
    )
    add("--epochs", default="20", help="passes over the digits (default: 20)")
    add("--batch-size", default="32", help="digits per step (default: 32)")
    add(
        "--image",
        type=Path,
        metavar="FILE",
        help="the photograph (default: scikit-learn's china.jpg)",
    )
    add(
        "--out",
        type=Path,
        default=Path("jaxpool-demo"),
        metavar="FOLDER",
        help="where results.json and gallery.png go (default: jaxpool-demo)",
    )
    options = parser.parse_args(argv)
    options.pools = _modes(_words("--pools", options.pools or list(POOLS)))
    seeds = _words("--seeds", options.seeds or ["0", "1", "2"])
    options.seeds = list(
        dict.fromkeys(_number("--seeds", seed, 0, 2**32 - 1) for seed in seeds)
    )
    options.epochs = _number("--epochs", options.epochs, 1, 10_000)
    options.batch_size = _number("--batch-size", options.batch_size, 1, 2**32 - 1)
    return options


def _words(option: str, arguments: list[str]) -> list[str]:
    """Splits at commas and spaces, and leaves out what is repeated."""
    words = list(dict.fromkeys(" ".join(arguments).replace(",", " ").split()))
    if not words:
        raise DemoError(f"{option}: nothing given")
    return words


def _modes(names: list[str]) -> list[str]:
    if names == ["all"]:
        return list(MODES)
    for name in names:
        if name not in MODES:
            known = ", ".join(MODES)
            raise DemoError(f"--pools: unknown mode {name!r}; the modes are {known}")
    return names


def _number(option: str, text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise DemoError(
            f"{option}: expected a whole number from {least} to {most}, got {text!r}"
        )
    return number


def _check_extras() -> None:
    missing = [
        name
        for module, name in EXTRAS.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise DemoError(
            f"{', '.join(missing)} not installed: "
            'write pip install "jaxpool[demo]" to install what the demo needs'
        )


def _run(options: argparse.Namespace) -> None:
    _check_extras()
    # Imported here, so that `--list` and mistakes cost no time and need no extras.
    from . import _gallery, _training

    photo = _gallery.load_photo(options.image)
    digits = _training.load_digits()
    size = len(digits.train_labels)
    if options.batch_size > size:
        raise DemoError(
            f"--batch-size: expected at most {size}, the digits to train on, "
            f"got {options.batch_size}"
        )
    with output_folder(options.out, (RESULTS, GALLERY)):
        modes = _compare(options, digits)
        views = _progress("drawing", "mode")(options.pools)
        picture = _gallery.draw(photo, (_gallery.view(mode, photo) for mode in views))
        results = _describe(options, digits) | {"modes": modes}
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
        write_all(options.out, {RESULTS: text.encode(), GALLERY: picture})
    _report(results, options.out)


def _report(results: dict[str, Any], folder: Path) -> None:
    training, data = results["training"], results["data"]
    seeds = ", ".join(map(str, training["seeds"]))
    print(
        f"{training['network']}\n"
        f"on {data['name']}: {data['train_size']} to train, {data['test_size']} to "
        f"test; {training['epochs']} epochs; seeds {seeds}; "
        f"jax {results['versions']['jax']} on {results['device']['kind']}\n\n"
        f"{format_table(results)}\n\n"
        f"wrote {folder / RESULTS} and {folder / GALLERY}"
    )


def _progress(title: str, unit: str) -> Callable[..., Any]:
    from tqdm import tqdm

    return functools.partial(tqdm, desc=title, unit=unit, mininterval=0.5)


def _compare(options: argparse.Namespace, digits: Any) -> dict[str, Any]:
    """Trains and times every mode; returns what `results.json` says about each."""
    from . import _training

    steps = options.epochs * (len(digits.train_labels) // options.batch_size)
    # max is the yardstick of step times, asked for or not.
    modes = dict.fromkeys([*options.pools, "max"])
    trainers = {mode: _training.make_trainer(mode, steps) for mode in modes}
    entries = {}
    total = len(options.pools) * len(options.seeds) * options.epochs
    with _progress("training", "epoch")(total=total) as bar:
        for mode in options.pools:
            bar.set_postfix_str(mode)
            runs = [
                _training.train(
                    trainers[mode],
                    digits,
                    seed=seed,
                    epochs=options.epochs,
                    batch_size=options.batch_size,
                    on_epoch=bar.update,
                )
                for seed in options.seeds
            ]
            entries[mode] = _training.summarise(runs)
    seconds = _training.time_steps(
        trainers,
        digits,
        batch_size=options.batch_size,
        rounds=_progress("timing", "round"),
    )
    for mode, entry in entries.items():
        entry["step_seconds"] = seconds[mode]
        entry["step_time_relative_to_max"] = seconds[mode] / seconds["max"]
    return entries


def _describe(options: argparse.Namespace, digits: Any) -> dict[str, Any]:
    """Says how the numbers came about, for whoever reads `results.json` later."""
    import jax

    from . import _gallery, _training

    device = jax.devices()[0]
    return {
        "format": 1,
        "versions": {name: version(name) for name in ("jaxpool", "jax", "flax")},
        "device": {"platform": device.platform, "kind": device.device_kind},
        "data": {
            "name": "scikit-learn's digits",
            "split": "in file order, not shuffled",
            "train_size": len(digits.train_labels),
            "test_size": len(digits.test_labels),
        },
        "training": {
            "network": _training.describe_network(),
            "pool_window": {
                "window_shape": _training.WINDOW_SHAPE,
                "strides": "the window",
            },
            "seeds": options.seeds,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "optimizer": "adam, cosine decay to 0",
            "learning_rate": _training.LEARNING_RATE,
        },
        "timing": {
            "what": "median over rounds of one training step; modes take turns",
            "rounds": _training.TIMING_ROUNDS,
            "steps_per_round": _training.STEPS_PER_ROUND,
        },
        "gallery": {
            "image": str(options.image or _gallery.SAMPLE),
            "window_shape": _gallery.WINDOW_SHAPE,
            "largest_pixel": _gallery.LARGEST,
        },
    }

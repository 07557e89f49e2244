"""Writes the tables of the README and of docs/performance.md from benchmarks/results.

A table stands between `<!-- FILE DIRECTION PATTERN -->` and `<!-- end -->`: the rows of
FILE whose case matches the regular expression PATTERN, with DIRECTION `fwd` or
`fwd+bwd`. A test runs `filled` and compares. Run: `python -m benchmarks.tables`.
"""

import json
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "performance.md"]
TABLE = re.compile(r"<!-- (\S+\.json) (fwd\S*) ([^\n]+) -->\n.*?<!-- end -->", re.S)
NAMES = {"stock": "stock JAX", "torch": "PyTorch", "compiled": "PyTorch compiled"}
NAMES |= {"equinox": "Equinox", "keras": "Keras", "limit": "a copy of the bytes"}


def filled(text: str) -> str:
    """A page with its tables made anew."""

    def table(match):
        results = json.loads((ROOT / "benchmarks" / "results" / match[1]).read_text())
        begin = match[0].splitlines()[0]
        return "\n".join([begin, *_table(results, match[2], match[3]), "<!-- end -->"])

    return TABLE.sub(table, text)


def _table(results, direction, pattern):
    """Lines of markdown: a row per case, both dtypes in a cell."""
    cases: dict[str, dict] = {}
    memory: dict[str, list] = {}
    large = results["device"] != "cpu"  # `core` takes 16 times the batch
    for row in results["rows"]:
        case, dtype, towards = row["case"].rsplit(" ", 2)
        if towards == direction and re.search(pattern, case):
            if large:
                case = re.sub(r"(?<=/s\d )\d+", lambda n: str(16 * int(n[0])), case)
            cases.setdefault(case, {})[dtype] = row["seconds"]
            memory.setdefault(case, []).append(row.get("temporaries"))
    every = [seconds for of in cases.values() for seconds in of.values()]
    peers = dict.fromkeys(peer for seconds in every for peer in seconds)
    del peers["ours"]
    dtypes = list(dict.fromkeys(dtype for of in cases.values() for dtype in of))
    head = [" / ".join(dtypes), "ours, ms", *(NAMES.get(p, p) for p in peers)]
    planned = list(results["rows"][0].get("temporaries", ()))
    head += [f"temporaries per input byte, {NAMES.get(p, p)}" for p in planned]
    means = ["geometric mean", ""]
    for peer in peers:
        ratios = [s[peer] / s["ours"] for s in every if peer in s]
        means.append(f"**{_digits(statistics.geometric_mean(ratios))}**")
    yield ""
    yield _row(head)
    yield "|---" * len(head) + "|"
    for case, of in cases.items():
        ours = [_digits(1e3 * of[dtype]["ours"]) for dtype in of]
        cells = [case, " / ".join(ours)]
        for peer in peers:
            ratios = [s[peer] / s["ours"] for s in of.values() if peer in s]
            cells.append(" / ".join(map(_digits, ratios)))
        for name in planned:
            cells.append(" / ".join(_digits(t[name]) for t in memory[case]))
        yield _row(cells)
    yield _row(means + [""] * len(planned))
    yield ""
    about = (results.get(k) for k in ("device", "cores", "jax", "torch", "date"))
    device, cores, jax, torch, date = about
    device = f"{cores} CPU cores" if device == "cpu" else device
    yield f"{device}, jax {jax}, PyTorch {torch}, {date}."
    yield ""


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _digits(number):
    """Two significant digits, three from 100 on."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))

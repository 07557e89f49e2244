"""What mkdocs does beyond its plugins: pages from outside `docs/`, and formulas.

The README is the site's first page, and notebooks, figures and the other pages of the
root are part of it. Links are written for the repository, where they can be followed,
and are turned into the site's here. Formulas become MathML, which browsers draw
themselves.
"""

import base64
import importlib
import inspect
import pathlib
import posixpath
import re

import latex2mathml.converter
import nbformat
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
LAYERS = re.compile(r"^::: (jaxpool\.(?:nnx|linen))$", re.M)
BLOCK, INLINE = re.compile(r"^\$\$(.+)\$\$$", re.M), re.compile(r"(?<!\w)\$(\S.*?)\$")


def on_files(files, config):
    """Add what lies outside of `docs/`."""
    for path in [ROOT / name for name in OUTSIDE] + [
        *ROOT.glob("benchmarks/**/*.json")
    ]:
        there = _on_site(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, there, abs_src_path=str(path)))
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        for name, content in _notebook(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links within the repository into links within the site, and formulas."""
    here = page.file.src_uri
    folder = posixpath.dirname(_in_repository(here))

    def link(match):
        target, anchor = match[1], match[2] or ""
        if "://" in target:
            return match[0]
        there = _on_site(posixpath.normpath(posixpath.join(folder, target)))
        return f"]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.M | re.S)
    for i in range(0, len(parts), 2):  # every other part is code
        parts[i] = BLOCK.sub(_formula("block"), parts[i])
        parts[i] = INLINE.sub(_formula("inline"), parts[i])
    return LAYERS.sub(_layers, LINK.sub(link, "".join(parts)))


def _layers(match):
    """A section for every layer of a system."""
    system = importlib.import_module(match[1])
    names = sorted(n for n, v in vars(system).items() if inspect.isclass(v))
    options = "    options: {members: false, show_bases: false}"
    return "\n\n".join(f"::: {match[1]}.{name}\n{options}" for name in names)


def _formula(display):
    return lambda match: latex2mathml.converter.convert(match[1], display=display)


def _notebook(path):
    """A committed notebook as a page and its pictures, by name."""
    text, files = [], {}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            text.append(cell.source)
            continue
        text.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{path.stem}_{len(files)}.png"
                files[name] = base64.b64decode(data["image/png"])
                text.append(f"![]({name})")
            elif "text/markdown" in data:
                text.append(data["text/markdown"])
            else:
                text.append(f"```text\n{data['text/plain']}\n```")
    return {f"{path.stem}.md": "\n\n".join(text)} | files


def _on_site(path):
    """Where a file of the repository is on the site."""
    path = "index.md" if path == "README.md" else path.removeprefix("docs/")
    return path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path


def _in_repository(path):
    """Where a page of the site is in the repository, or could be."""
    if path == "index.md":
        return "README.md"
    outside = (ROOT / path).exists() or path.startswith("notebooks/")
    return path if outside else f"docs/{path}"

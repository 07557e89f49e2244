"""The demo: `python -m jaxpool.demo`, with the extra `demo` installed.

Trains the same small network once per pooling mode on real handwritten digits, and
draws what each mode does to a photograph.
"""

from ._cli import main as main

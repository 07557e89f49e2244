"""The matrix of what works where says what is so."""

import catalogue
import conformance
import pytest


@pytest.mark.parametrize("name", sorted(catalogue.CALLS))
def test_matrix_is_true(name):
    found = conformance.row(name)
    rows = [r for r in conformance.PAGE.read_text().splitlines() if f"| `{name}`" in r]
    assert rows == [found], "`python tests/conformance.py` writes docs/conformance.md"
    assert "Error" not in found


def test_matrix_has_nothing_else():
    lines = conformance.PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert conformance.PAGE.read_text() == conformance.page(rows)
    assert len(rows) == len(catalogue.CALLS)


def test_matrix_finds_what_is_broken(monkeypatch):
    import jax

    @jax.custom_vjp
    def half(x):
        return x / 2

    half.defvjp(lambda x: (half(x), None), lambda _, g: (g / 2,))
    monkeypatch.setitem(catalogue.CALLS, "half", half)
    found = conformance.cell("half", "float32")
    assert "no jvp on cpu" in found
    assert "no hessian on tpu" in found
    assert "no grad" not in found

"""What griffe, which reads source without running it, misses in ours."""

import importlib
import inspect

import griffe

LAYERS = ("jaxpool.nnx.", "jaxpool.linen.")


class Docstrings(griffe.Extension):
    """Finds docstrings and arguments of layers, and every `Example:`."""

    def on_object(self, *, obj, **kwargs):
        """Called for every module, class and function."""
        public = not obj.name.startswith("_")
        if obj.is_class and public and obj.path.startswith(LAYERS):
            layer = getattr(importlib.import_module(obj.parent.path), obj.name)
            text = inspect.getdoc(layer) or ""
            obj.docstring = griffe.Docstring(text, parent=obj)
            init = griffe.Function("__init__", parameters=_parameters(layer))
            obj.set_member("__init__", init)
        if obj.docstring:  # griffe calls the section "Examples:"
            text = obj.docstring.value
            obj.docstring.value = text.replace("\nExample:\n", "\nExamples:\n")


def _parameters(layer):
    """The arguments of a layer without those that linen adds to every module."""
    found = []
    for parameter in inspect.signature(layer.__init__).parameters.values():
        if parameter.name in ("parent", "name"):
            continue
        default = parameter.default
        if default is inspect.Parameter.empty:
            default = None
        else:
            default = getattr(default, "__name__", repr(default))
        kind = griffe.ParameterKind[parameter.kind.name.lower()]
        found.append(griffe.Parameter(parameter.name, kind=kind, default=default))
    return griffe.Parameters(*found)

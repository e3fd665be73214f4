"""Movie-review snippets with real raters: the data, the base model and the judge of the example.

`fetch` gets the source, `build` turns it into the files a run reads, `judge` scores responses, and
`base_model` trains the small language model that the example starts from.
"""

from pathlib import Path

EXAMPLE_ROOT = Path(__file__).resolve().parent.parent
"""The example's folder: defaults for `data/` and `base-model/` are relative to it."""

__all__ = ["EXAMPLE_ROOT"]

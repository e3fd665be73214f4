"""What a plan has to know of a model: sizes, and how many parameters hold them. No weights."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """A linear layer."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Architecture:
    """Sizes of a causal language model, and of the classifier on its trunk."""

    family: str
    """`model_type` of its configuration."""
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    sizes: Sequence[int]
    """Elements of each parameter of the language model; of tied ones once."""
    classifier_parameters: int
    """Of a classifier with one label on the same trunk."""
    linears: Sequence[Linear]
    """All linear layers below the output layer."""

    @property
    def parameters(self) -> int:
        """Parameters of the language model."""
        return sum(self.sizes)

    @property
    def largest_parameter(self) -> int:
        """Elements of the largest single parameter."""
        return max(self.sizes)

    def small_parameters(self, threshold: int) -> int:
        """Return the elements in parameters of at most so many."""
        return sum(size for size in self.sizes if size <= threshold)

    def adapter_parameters(self, rank: int, targets: Sequence[str] | None) -> int:
        """Return the parameters of one adapter of the linear layers that `targets` names."""
        adapted = self._adapted(targets)
        return sum(rank * (linear.inputs + linear.outputs) for linear in adapted)

    def adapter_elements(self, rank: int, targets: Sequence[str] | None) -> int:
        """Return the elements between the two matrices of one adapter, of one token."""
        return rank * len(self._adapted(targets))

    def _adapted(self, targets: Sequence[str] | None) -> list[Linear]:
        return [each for each in self.linears if targets is None or _is_named(each.name, targets)]

    def packed_parameters(self, *, with_output: bool) -> int:
        """Return the elements of linear layers' weights: see `models.packed_linear`."""
        below = sum(linear.inputs * linear.outputs for linear in self.linears)
        return below + (self.hidden * self.vocabulary if with_output else 0)

    @property
    def cache_elements_per_token(self) -> int:
        """Elements of the keys and values that decoding keeps of one token."""
        return 2 * self.layers * self.key_value_heads * self.head_size


def _is_named(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)

"""The CustomResourceDefinition of `RLHFRun`, made from the models: nothing is written twice."""

from rlhf_operator.api.crd.definition import definition

__all__ = ["definition"]

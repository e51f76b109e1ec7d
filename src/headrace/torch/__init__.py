"""PyTorch datasets over objects of the namespace. Needs the extra `torch`."""

try:
    import torch  # noqa: F401 (asked for here so that its absence is told in our words)
except ModuleNotFoundError as error:
    raise ImportError("headrace.torch needs PyTorch: pip install 'headrace[torch]'") from error

from headrace.torch.datasets import ObjectDataset, ObjectStream, as_tensor
from headrace.torch.sampling import OrderSampler, current_share

__all__ = ["ObjectDataset", "ObjectStream", "OrderSampler", "as_tensor", "current_share"]

# SPDX-License-Identifier: MIT
"""Pickles of PyTorch's tensors with their memory as a buffer beside the pickle.

PyTorch itself copies a tensor into bytes, several times, whatever the protocol is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def reducers() -> dict[type, Callable[[Any], Any]]:
    """Give what pickles tensors, if this process has loaded PyTorch."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)  # which is not there yet during an import
    return {kind: _reduce} if kind else {}


def _reduce(tensor: Any) -> Any:  # noqa: ANN401
    """Take a tensor apart: a plain one in the computer's memory; any other as PyTorch does."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    plain = (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not vars(tensor)
    )
    if not plain:
        return tensor.__reduce_ex__(5)
    # As bytes, because NumPy lacks some of the dtypes.
    octets = tensor.reshape(-1).view(torch.uint8).numpy()
    return _restored, (octets, tensor.dtype, tuple(tensor.shape))


def _restored(octets: Any, dtype: Any, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    import torch  # type: ignore[import-not-found,unused-ignore]

    return torch.from_numpy(octets).view(dtype).reshape(shape)

# Types for type checkers only: nothing of this is there at run time.
from typing import Any, Protocol, TypeAlias

import numpy as np
from _typeshed import ReadableBuffer

class _Tensor(Protocol):
    def __dlpack__(self) -> Any: ...

# Any contiguous buffer. Before Python 3.12 NumPy's stubs do not say that an array is one.
Payload: TypeAlias = ReadableBuffer | np.ndarray[Any, Any] | np.generic | _Tensor

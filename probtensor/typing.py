"""Shape-annotated array types used everywhere. Sizes: N observations, T levels, R rank, S state, D modes."""

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
Key: TypeAlias = jax.Array

__all__ = ["Array", "ArrayLike", "Bool", "Float", "Int", "Key"]

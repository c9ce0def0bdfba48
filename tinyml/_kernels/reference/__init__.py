"""The executable specification of every kernel, in NumPy, with the same names and signatures. Outputs are written in place.

Compiled kernels are tested against it, integers with `==`, and float64 runs on it. Shapes are those of the kernels'
docstrings. Folders and files have the names of the Python files that call the kernels. This package has all kernels by
their names.
"""

from .. import table
from . import probes
from .attention import attention, rotary
from .products import convolution, dynamic_linear, integer_layer, matmul
from .rows import codes, columns, dropout, gathering, norms, optimizers, pointwise, pooling, softmax

_FILES = (attention, rotary, convolution, dynamic_linear, integer_layer, matmul, codes, columns, dropout, gathering,
          norms, optimizers, pointwise, pooling, softmax, probes)
_FUNCTIONS = {name: function for file in _FILES for name, function in vars(file).items()}
globals().update({name: _FUNCTIONS[name] for names in table.KERNELS.values() for name in names})

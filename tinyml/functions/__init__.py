"""What can be computed of Tensors, by subject. Functions whose first operand is called `input` are methods of Tensor, too.

An op with a backward of its own is called through `apply`; all else is composed of other functions. tinyml has all names
below.
"""

from inspect import isclass as _isclass
from inspect import signature as _signature
from types import ModuleType as _Module

from ..explain import explained as _explained
from . import arithmetic as _arithmetic
from . import comparison as _comparison
from . import conversion as _conversion
from . import creation as _creation
from . import cumulative as _cumulative
from . import diagonals as _diagonals
from . import distances as _distances
from . import einsum as _einsum
from . import facts as _facts
from . import filling as _filling
from . import indexing as _indexing
from . import joining as _joining
from . import likes as _likes
from . import linear_algebra as _linear_algebra
from . import pointwise as _pointwise
from . import random as _random
from . import ranges as _ranges
from . import rearranging as _rearranging
from . import reductions as _reductions
from . import scattering as _scattering
from . import shape as _shape
from . import shares as _shares
from . import sorting as _sorting
from . import splitting as _splitting
from . import statistics as _statistics
from . import trigonometry as _trigonometry

add, addcdiv, addcmul, arctan2 = _arithmetic.add, _arithmetic.addcdiv, _arithmetic.addcmul, _arithmetic.atan2
atan2, div, divide, floor_divide = _arithmetic.atan2, _arithmetic.div, _arithmetic.div, _arithmetic.floor_divide
fmod, hypot, lerp, logaddexp = _arithmetic.fmod, _arithmetic.hypot, _arithmetic.lerp, _arithmetic.logaddexp
maximum, minimum, mul, multiply = _arithmetic.maximum, _arithmetic.minimum, _arithmetic.mul, _arithmetic.mul
neg, negative, pow, remainder = _arithmetic.neg, _arithmetic.neg, _arithmetic.pow, _arithmetic.remainder
rsub, sub, subtract, true_divide = _arithmetic.rsub, _arithmetic.sub, _arithmetic.sub, _arithmetic.div
xlogy = _arithmetic.xlogy
allclose, bitwise_and, bitwise_left_shift = _comparison.allclose, _comparison.bitwise_and, _comparison.bitwise_left_shift
bitwise_not, bitwise_or = _comparison.bitwise_not, _comparison.bitwise_or
bitwise_right_shift, bitwise_xor, eq = _comparison.bitwise_right_shift, _comparison.bitwise_xor, _comparison.eq
equal, ge, greater, greater_equal, gt = _comparison.equal, _comparison.ge, _comparison.gt, _comparison.ge, _comparison.gt
isclose, isfinite, isin, isinf = _comparison.isclose, _comparison.isfinite, _comparison.isin, _comparison.isinf
isnan, le, less, less_equal = _comparison.isnan, _comparison.le, _comparison.lt, _comparison.le
logical_and, logical_not, logical_or = _comparison.logical_and, _comparison.logical_not, _comparison.logical_or
logical_xor, lt, ne, not_equal = _comparison.logical_xor, _comparison.lt, _comparison.ne, _comparison.ne
where = _comparison.where
clone, detach = _conversion.clone, _conversion.detach
as_tensor, empty, eye, from_numpy = _creation.as_tensor, _creation.empty, _creation.eye, _creation.from_numpy
full, ones, tensor, zeros = _creation.full, _creation.ones, _creation.tensor, _creation.zeros
cummax, cummin, cumprod, cumsum = _cumulative.cummax, _cumulative.cummin, _cumulative.cumprod, _cumulative.cumsum
diff = _cumulative.diff
diag, diag_embed, diagonal, tril = _diagonals.diag, _diagonals.diag_embed, _diagonals.diagonal, _diagonals.tril
triu = _diagonals.triu
cdist, dist = _distances.cdist, _distances.dist
einsum = _einsum.einsum
bool, device, double, finfo, float = _facts.bool, _facts.device, _facts.double, _facts.finfo, _facts.float
float16, float32, float64, get_default_dtype = _facts.float16, _facts.float32, _facts.float64, _facts.get_default_dtype
half, iinfo, int, int32, int64, int8 = _facts.half, _facts.iinfo, _facts.int, _facts.int32, _facts.int64, _facts.int8
is_floating_point, is_tensor, long, numel = _facts.is_floating_point, _facts.is_tensor, _facts.long, _facts.numel
set_default_dtype, uint8 = _facts.set_default_dtype, _facts.uint8
fill, fill_, zero_ = _filling.fill, _filling.fill_, _filling.zero_
argwhere, gather, index_select = _indexing.argwhere, _indexing.gather, _indexing.index_select
masked_select, nonzero, take = _indexing.masked_select, _indexing.nonzero, _indexing.take
take_along_dim = _indexing.take_along_dim
atleast_1d, atleast_2d, atleast_3d = _joining.atleast_1d, _joining.atleast_2d, _joining.atleast_3d
broadcast_tensors, cat, column_stack = _joining.broadcast_tensors, _joining.cat, _joining.column_stack
concat, concatenate, dstack, hstack = _joining.concat, _joining.concatenate, _joining.dstack, _joining.hstack
row_stack, stack, vstack = _joining.row_stack, _joining.stack, _joining.vstack
empty_like, full_like, ones_like, zeros_like = _likes.empty_like, _likes.full_like, _likes.ones_like, _likes.zeros_like
addbmm, addmm, addmv, addr = _linear_algebra.addbmm, _linear_algebra.addmm, _linear_algebra.addmv, _linear_algebra.addr
baddbmm, bmm, dot, inner = _linear_algebra.baddbmm, _linear_algebra.bmm, _linear_algebra.dot, _linear_algebra.inner
matmul, mm, mv, outer = _linear_algebra.matmul, _linear_algebra.mm, _linear_algebra.mv, _linear_algebra.outer
tensordot, trace = _linear_algebra.tensordot, _linear_algebra.trace
abs, absolute, ceil, clamp = _pointwise.abs, _pointwise.abs, _pointwise.ceil, _pointwise.clamp
clamp_max, clamp_min, clip, erf = _pointwise.clamp_max, _pointwise.clamp_min, _pointwise.clip, _pointwise.erf
exp, exp2, expm1, fix, floor = _pointwise.exp, _pointwise.exp2, _pointwise.expm1, _pointwise.trunc, _pointwise.floor
frac, log, log10, log1p, log2 = _pointwise.frac, _pointwise.log, _pointwise.log10, _pointwise.log1p, _pointwise.log2
logit, nan_to_num, reciprocal, relu = _pointwise.logit, _pointwise.nan_to_num, _pointwise.reciprocal, _pointwise.relu
round, rsqrt, sigmoid, sign = _pointwise.round, _pointwise.rsqrt, _pointwise.sigmoid, _pointwise.sign
sqrt, square, trunc = _pointwise.sqrt, _pointwise.square, _pointwise.trunc
bernoulli, multinomial, normal, rand = _random.bernoulli, _random.multinomial, _random.normal, _random.rand
rand_like, randint, randint_like, randn = _random.rand_like, _random.randint, _random.randint_like, _random.randn
randn_like, randperm = _random.randn_like, _random.randperm
arange, linspace, meshgrid, tril_indices = _ranges.arange, _ranges.linspace, _ranges.meshgrid, _ranges.tril_indices
triu_indices = _ranges.triu_indices
flip, repeat_interleave, roll = _rearranging.flip, _rearranging.repeat_interleave, _rearranging.roll
rot90, tile = _rearranging.rot90, _rearranging.tile
all, amax, amin, any, argmax = _reductions.all, _reductions.amax, _reductions.amin, _reductions.any, _reductions.argmax
argmin, count_nonzero, logsumexp = _reductions.argmin, _reductions.count_nonzero, _reductions.logsumexp
max, mean, min, prod, sum = _reductions.max, _reductions.mean, _reductions.min, _reductions.prod, _reductions.sum
index_add, index_copy, index_fill = _scattering.index_add, _scattering.index_copy, _scattering.index_fill
index_put, masked_fill, masked_scatter = _scattering.index_put, _scattering.masked_fill, _scattering.masked_scatter
scatter, scatter_add = _scattering.scatter, _scattering.scatter_add
broadcast_to, flatten, moveaxis, movedim = _shape.broadcast_to, _shape.flatten, _shape.moveaxis, _shape.movedim
permute, ravel, reshape, squeeze, swapaxes = _shape.permute, _shape.ravel, _shape.reshape, _shape.squeeze, _shape.swapaxes
swapdims, t, transpose, unflatten = _shape.swapdims, _shape.t, _shape.transpose, _shape.unflatten
unsqueeze = _shape.unsqueeze
log_softmax, softmax = _shares.log_softmax, _shares.softmax
argsort, bucketize, kthvalue = _sorting.argsort, _sorting.bucketize, _sorting.kthvalue
searchsorted, sort, topk, unique = _sorting.searchsorted, _sorting.sort, _sorting.topk, _sorting.unique
chunk, narrow, select, split = _splitting.chunk, _splitting.narrow, _splitting.select, _splitting.split
split_with_sizes, tensor_split, unbind = _splitting.split_with_sizes, _splitting.tensor_split, _splitting.unbind
bincount, histc, median, mode = _statistics.bincount, _statistics.histc, _statistics.median, _statistics.mode
norm, quantile, std, std_mean = _statistics.norm, _statistics.quantile, _statistics.std, _statistics.std_mean
var, var_mean = _statistics.var, _statistics.var_mean
acos, acosh, arccos, arcsin = _trigonometry.acos, _trigonometry.acosh, _trigonometry.acos, _trigonometry.asin
arctan, asin, asinh, atan = _trigonometry.atan, _trigonometry.asin, _trigonometry.asinh, _trigonometry.atan
atanh, cos, cosh, sin = _trigonometry.atanh, _trigonometry.cos, _trigonometry.cosh, _trigonometry.sin
sinh, tan, tanh = _trigonometry.sinh, _trigonometry.tan, _trigonometry.tanh

# Not a plain list: checkers of types then take every name above for exported, and no name is written twice.
globals()["__all__"] = [name for name, value in list(globals().items())
                        if name[0] != "_" and not isinstance(value, _Module)]
for _name in globals()["__all__"]:      # what is no Tensor becomes one here, and an opaque error says what was wrong
    _function = globals()[_name]
    if callable(_function) and not _isclass(_function):
        _function = _explained(_function)
        _takes_input = next(iter(_signature(_function).parameters), "") == "input"
        globals()[_name] = _creation.of_tensors(_function) if _takes_input else _function

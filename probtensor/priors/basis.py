"""Gaussian processes of one or several coordinates with a fixed number of basis functions."""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import Metric, measure
from probtensor.kernels.spectral import check_spectral, spectral_density
from probtensor.linalg import cosines
from probtensor.linalg.gaussian import cholesky_above_identity
from probtensor.linalg.packing import pack, unpack
from probtensor.priors.base import (
    AbstractModePrior,
    Belief,
    Colouring,
    Marginals,
    Sites,
    check_size,
    divergence,
    group_equal,
)
from probtensor.typing import Array, Bool, Float, Int, Key

#: The box is as many times longer than the range of the levels.
BOUNDARY = 1.3
#: Default number of functions: at most, at least, and times the number of components.
_MOST, _LEAST, _TOGETHER = 300, 30, 2000
#: A basis whose highest frequency times a lengthscale is this has all but 3% of the variance of a Matern-3/2 surface.
_RESOLVED = 5.0


class Box(eqx.Module):
    """A box around the levels, and the eigenfunctions of the Laplacian on it that make up the basis.

    Attributes:
        half: (d,) half its length in each flat coordinate; inner: (d,) the same of the levels' range.
        orders: (M, d) number of half waves of each function in each coordinate.
        sizes: frequencies of products of two functions, see `cosines.frequencies_of`.
    """

    half: Float[Array, "d"]
    inner: Float[Array, "d"]
    orders: Int[Array, "M d"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def angles(self, x: Float[Array, "T d"]) -> tuple[Float[Array, "T d"], Bool[Array, "T"], Bool[Array, "T"]]:
        """Angles from 0 to pi across the box, whether a point is in the box, and whether among the levels."""
        share = x / self.half.astype(x.dtype)[None]
        inside = jnp.all(jnp.abs(share) <= 1, axis=1)
        rounding = 1e3 * jnp.finfo(x.dtype).eps
        among = jnp.all(jnp.abs(x) <= (1 + rounding) * self.inner.astype(x.dtype)[None], axis=1)
        return 0.5 * jnp.pi * (jnp.clip(share, -1, 1) + 1), inside, among


class _Solved(NamedTuple):
    """Weights of all components given sites: z with B z = b for B = I + inner, numbered function by component."""

    scales: Float[Array, "R M"]
    inner: Float[Array, "RM RM"]
    chol_B: Float[Array, "RM RM"]
    z: Float[Array, "RM"]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]

    @property
    def energy(self) -> Float[Array, ""]:
        """Distance of the mean from the prior."""
        return jnp.sum(self.z**2)

    def inverse_root(self) -> Float[Array, "RM RM"]:
        """A matrix with inverse_root' inverse_root = B^-1."""
        return solve_triangular(self.chol_B, jnp.eye(self.chol_B.shape[0], dtype=self.chol_B.dtype), lower=True)


class Basis(AbstractModePrior):
    """Independent Gaussian processes, one for each component, as sums of a fixed number of basis functions.

    Use it for surfaces over joined dimensions with many levels (tens of thousands), and for smooth functions. It is
    blind to what is finer than its shortest wave: with M functions in d dimensions that is about 4 box / M^(1/d), and
    lengthscales below that are learned as noise. Cost for T levels, R components and M functions: O(T M R^2) and
    O((M R)^3); memory 8 (M R)^2 numbers.

    ``"hilbert"``: products of cosines, the eigenfunctions of the Laplacian on a box 1.3 times as long as the levels'
    range in each coordinate, without slope at its walls; their weights have the kernel's spectral density at their
    frequencies as variance. (Functions that are zero at the walls, as published, cannot be nearly constant.) Beyond
    the levels' range what the basis lacks of the kernel's variance is added, independently at each point, and beyond
    the box there is nothing else: the mean is zero and the sd the prior's. A latitude and a longitude are on a map true
    to scale at their middle, cut at the largest gap in longitude, in km; near the poles and right around the Earth
    ``Dense`` is better.

    Args:
        kind: ``"hilbert"``.
        size: number of functions M over all coordinates: those of the lowest frequencies. None: at most 300 and the
            number of levels, and 2000 for all components together (but at least 30).
        kernel: `Matern` or a sum of them, of the distance scaled in each coordinate; Matern-3/2 by default.

    Raises:
        ModelError: another kind or size, a kernel without a spectral density, a coordinate that holds names, or more
            than 5,000 functions times components.

    Source: Solin and Sarkka 2020, Hilbert space methods for reduced-rank Gaussian process regression; Riutort-Mayol et
    al. 2023 (box and number of functions).
    """

    kind: str = eqx.field(static=True)
    size: int | None = eqx.field(static=True, default=None)
    kernel: AbstractKernel | None = None
    metric: Metric | None = None
    box: Box | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what is not a basis."""
        if self.kind != "hilbert":
            raise ModelError(f"Basis({self.kind!r}): only 'hilbert' is available")
        size = self.size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
            raise ModelError(f"Basis(size={size!r}): the number of functions must be a positive integer")
        if not isinstance(self.kernel, AbstractKernel | None):
            raise ModelError(f"Basis(kernel={self.kernel!r}): expected a kernel such as pt.Matern(3/2)")
        if self.kernel is not None:
            check_spectral(self.kernel)

    def bind(self, axis: Axis, start: Start) -> Basis:
        """Lays the box around the levels; lengthscales start no shorter than the basis resolves."""
        kernel = Matern(3 / 2) if self.kernel is None else self.kernel
        rank = len(start.lengthscales)
        size = self.size
        if size is None:
            size = min(_MOST, max(_LEAST, _TOGETHER // rank), axis.distinct)
        metric, line = measure(axis, kernel, on_sphere=False)
        x = np.asarray(metric.chart(jnp.asarray(axis.points.astype(float))), dtype=float)
        inner = np.abs(x).max(axis=0)
        half = BOUNDARY * np.where(inner > 0, inner, 1.0)
        most = [math.ceil(BOUNDARY * len(np.unique(column))) for column in x.T]
        stretched = half * np.asarray(metric.factors(), dtype=float)
        steps = np.pi / (2 * stretched)
        orders = lowest_orders(steps, most, size)
        check_size("Basis", len(orders), rank, "functions", "weights", "Lower the size or the rank")
        highest = max(np.sqrt(((orders * steps) ** 2).sum(axis=1).max()), steps.min())
        scales = np.maximum(line.lengthscales(rank) if axis.parts else start.lengthscales, _RESOLVED / highest)
        bound = kernel.bind(line if axis.parts else axis, start._replace(lengthscales=scales))
        box = Box(jnp.asarray(half), jnp.asarray(inner), jnp.asarray(orders), cosines.frequencies_of(orders))
        return Basis(self.kind, len(orders), bound, metric, box)

    def _parts(self) -> tuple[AbstractKernel, Metric, Box]:
        assert self.kernel is not None and self.metric is not None and self.box is not None
        return self.kernel, self.metric, self.box

    def _scales(self) -> Float[Array, "R M"]:
        """Prior standard deviations of the weights of cosines, which are eigenfunctions but for their norm."""
        kernel, metric, box = self._parts()
        half = metric.factors() * box.half
        frequencies = box.orders.astype(half.dtype) * (0.5 * jnp.pi / half)[None]
        density = spectral_density(kernel, jnp.sum(frequencies**2, axis=1), half.shape[0])
        square_norm = jnp.prod(half[None] * jnp.where(box.orders == 0, 2.0, 1.0), axis=1)
        return jnp.sqrt(density / square_norm[None])

    def _angles(self, points: Float[Array, "T ..."]) -> tuple[Array, Array, Array]:
        _, metric, box = self._parts()
        return box.angles(metric.chart(points))

    def _solve(self, points: Float[Array, "T ..."], sites: Sites) -> _Solved:
        box, sites = self._parts()[2], sites.about(None)
        angles, inside, _ = self._angles(points)
        eta = cosines.project(angles, box.orders, box.sizes, jnp.where(inside[:, None], sites.eta, 0.0))
        packed = jnp.where(inside[:, None], pack(sites.precision), 0.0)
        sums = unpack(cosines.gram(angles, box.orders, box.sizes, packed), eta.shape[1])
        scales = self._scales()
        whitened = scales[:, :, None, None] * sums.transpose(2, 0, 3, 1) * scales[None, None]
        inner = whitened.reshape(scales.size, scales.size)
        inner = 0.5 * (inner + inner.T)
        chol_B = cholesky_above_identity(inner)
        half = solve_triangular(chol_B, (scales * eta.T).reshape(-1), lower=True)
        z = solve_triangular(chol_B, half, lower=True, trans=1)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(chol_B)))
        return _Solved(scales, inner, chol_B, z, log_det, 0.5 * (jnp.sum(half**2) - log_det))

    def _marginals(
        self, points: Float[Array, "T ..."], solved: _Solved, B_inverse: Float[Array, "RM RM"]
    ) -> tuple[Marginals, Array, Array]:
        """Means and covariances of the sums of cosines; also the angles and whether a point is among the levels."""
        box, scales = self._parts()[2], solved.scales
        R, M = scales.shape
        angles, inside, among = self._angles(points)
        weights = (scales * solved.z.reshape(R, M)).T
        mean = cosines.expand(angles, box.orders, box.sizes, weights)
        spread = scales[:, :, None, None] * B_inverse.reshape(R, M, R, M) * scales[None, None]
        cov = cosines.quadratic(angles, box.orders, box.sizes, pack(spread.transpose(1, 3, 0, 2)))
        keep = inside[:, None]
        marginals = Marginals(jnp.where(keep, mean, 0.0), unpack(jnp.where(keep, cov, 0.0), R))
        return marginals, angles, among

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Conditions the weights of all components at once."""
        solved = self._solve(points, sites)
        root = solved.inverse_root()
        B_inverse = root.T @ root
        (mean, cov), _, _ = self._marginals(points, solved, B_inverse)
        kl = divergence(B_inverse, solved.inner, solved.energy, solved.log_det)
        return Belief(mean, cov, solved.log_normaliser, kl, points, sites)

    def _lacking(self, angles: Float[Array, "M d"], inside: Array, among: Array, scales: Array) -> Float[Array, "M R"]:
        """Variance of the kernel that the basis has not, beyond the levels' range."""
        kernel, _, box = self._parts()
        squares = jnp.eye(scales.shape[1], dtype=scales.dtype)[:, :, None] * (scales**2).T[None]
        has = cosines.quadratic(angles, box.orders, box.sizes, squares)
        variance = kernel.covariance(jnp.zeros(1, has.dtype))[:, 0]
        lacking = jnp.maximum(variance[None] - jnp.where(inside[:, None], has, 0.0), 0.0)
        return jnp.where(among[:, None], 0.0, lacking)

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """The functions' sums; beyond the levels' range also the variance that they lack."""
        solved = self._solve(belief.points, belief.sites)
        root = solved.inverse_root()
        new_points = new_points.astype(belief.points.dtype)
        marginals, angles, among = self._marginals(new_points, solved, root.T @ root)
        inside = self._angles(new_points)[1]
        lacking = self._lacking(angles, inside, among, solved.scales)
        return Marginals(marginals.mean, marginals.cov + jax.vmap(jnp.diag)(lacking))

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Draws of the weights, used at all points, and of what they lack at each point beyond the levels' range."""
        solved, box = self._solve(belief.points, belief.sites), self._parts()[2]
        R, M = solved.scales.shape
        first, second = jax.random.split(key)
        noise = jax.random.normal(first, (n, R * M), solved.z.dtype)
        weights = (solved.z[None] + noise @ solved.inverse_root()).reshape(n, R, M) * solved.scales[None]
        new_points = new_points.astype(belief.points.dtype)
        angles, inside, among = self._angles(new_points)

        drawn = cosines.expand(angles, box.orders, box.sizes, weights.transpose(2, 0, 1).reshape(M, n * R))
        drawn = drawn.reshape(-1, n, R).transpose(1, 0, 2)
        own = jax.random.normal(second, drawn.shape, drawn.dtype)[:, group_equal(new_points)]
        lacking = self._lacking(angles, inside, among, solved.scales)
        return jnp.where(inside[None, :, None], drawn, 0.0) + jnp.sqrt(lacking)[None] * own

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each weight."""
        return self._parts()[2].orders.shape[0], rank

    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """The functions' sum with the noise as weights."""
        angles, inside, _ = self._angles(points)
        return Colouring(_summed, angles, inside, self._parts()[2], self._scales())

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> Basis:
        """Nothing in closed form."""
        return self


def lowest_orders(steps: np.ndarray, most: list[int], size: int) -> Int[np.ndarray, "M d"]:
    """The orders from 0 to ``most`` in each dimension with the ``size`` lowest frequencies; fewer if there are not.

    steps: (d,) frequency of order 1 in each dimension; that of a product of cosines is the root of the squares.
    """
    radius = float(np.prod(steps) * size) ** (1 / len(steps))
    while True:
        caps = [min(n, math.floor(radius / step)) for n, step in zip(most, steps, strict=True)]
        grid = np.stack(np.meshgrid(*(np.arange(cap + 1) for cap in caps), indexing="ij"), axis=-1)
        orders = grid.reshape(-1, len(steps))
        squares = ((orders * steps) ** 2).sum(axis=1)
        complete = all(cap == n for cap, n in zip(caps, most, strict=True))
        if complete or np.count_nonzero(squares <= radius**2) >= size:
            return orders[np.lexsort((*orders.T, np.round(squares / steps.min() ** 2, 9)))][:size]
        radius *= 1.3


def _summed(
    angles: Array, inside: Array, box: Box, scales: Float[Array, "R M"], white: Float[Array, "M R"]
) -> Float[Array, "T R"]:
    values = cosines.expand(angles, box.orders, box.sizes, scales.T * white)
    return jnp.where(inside[:, None], values, 0.0)

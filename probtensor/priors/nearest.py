"""Gaussian processes over very many levels, each conditioned on its nearest neighbours."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start, check_of_several
from probtensor.kernels.custom import check_positive_definite
from probtensor.kernels.metric import Metric, circle_places, euclidean, measure
from probtensor.linalg.incomplete import Field, Pattern
from probtensor.linalg.small import one_by_one
from probtensor.priors.base import AbstractModePrior, Belief, Colouring, Marginals, Sites, divergence, group_equal
from probtensor.priors.dense import Solved, in_chunks, solve
from probtensor.priors.many import Many, draw_many, slopes, solve_many
from probtensor.priors.neighbourhoods import STRICT, Neighbourhoods, neighbourhoods
from probtensor.priors.vecchia import Conditionals, conditionals
from probtensor.typing import Array, Float, Int, Key

#: Levels times components that are conditioned by dense algebra.
EXACT = 1000
#: Up to so many new points are drawn jointly; among more, each given the levels alone.
JOINTLY = 2048
#: Digits of places in km: the longitudes of a pole are one place.
_MILLIMETRES = 6
assert EXACT <= STRICT  # so that the rows of the dense road have no padding


class Nearest(AbstractModePrior):
    """Independent Gaussian processes, one for each component, in which a level depends on its nearest earlier levels.

    Use it for a surface over joined dimensions with thousands to a hundred thousand levels that is too rough for
    ``Basis``. The levels are taken in an order that covers all of them ever more finely, and each is conditioned on the
    ``neighbours`` nearest ones before it; with as many neighbours as levels (at most 1,024) this is the exact process.
    Neighbours are found once, before learning, with the stretch of a joined mode's coordinates as it starts. For a
    latitude and a longitude in degrees the distance is the chord's length in km.

    Up to 1,000 levels times components the posterior under this prior is exact. Beyond, means are (to ten digits, by
    conjugate gradients), and the rest is estimated with 32 fixed probes, so that it is the same in every call:
    standard deviations and the log-normaliser with its gradient to the errors that ``probtensor.priors.many`` states.
    Cost O(T m^2 R (m + R^2)) for T levels, m neighbours and R components, memory O(T m R^2).

    New points depend on the levels around the nearest one. Draws at up to 2,048 new points are joint; those at more are
    independent of each other given the levels.

    Args:
        kernel: any kernel; over several coordinates one of distance.
        neighbours: m, how many levels each is conditioned on. More of them matter for smooth kernels.
        metric: how distances are measured; filled in by ``bind``, leave it out.
        hoods: the neighbours of every level; filled in by ``bind``, leave it out.

    Raises:
        ModelError: the number of neighbours is not a positive integer, a coordinate holds names, or the kernel is one
            along a single coordinate and the mode has several.

    Source: Vecchia 1988; Datta et al. 2016; Schafer, Katzfuss and Owhadi 2021.
    """

    kernel: AbstractKernel
    neighbours: int = eqx.field(static=True, default=30)
    metric: Metric | None = None
    hoods: Neighbourhoods | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what is no kernel or no number."""
        if not isinstance(self.kernel, AbstractKernel):
            raise ModelError(f"Nearest({self.kernel!r}): expected a kernel such as pt.Matern(3/2)")
        m = self.neighbours
        if isinstance(m, bool) or not isinstance(m, int | np.integer) or m < 1:
            raise ModelError(
                f"Nearest(neighbours={m!r}): the number of neighbours must be a positive integer; 30 is good for most"
            )

    def bind(self, axis: Axis, start: Start) -> Nearest:
        """Binds the kernel and the metric, and finds the neighbours."""
        if axis.kind == "category" and not axis.parts:
            raise ModelError(
                f"Nearest: coordinate {axis.name!r} holds names, which have no distance; use pt.Categorical()"
            )
        check_of_several(self.kernel, [part.name for part in axis.parts])
        if not self.kernel.stationary:
            raise ModelError(
                "Nearest: the kernel has an origin, and neighbours are near by distance alone; use pt.Markov(kernel)"
            )
        metric, line = measure(axis, self.kernel, on_sphere=True)
        if axis.parts:
            kernel = self.kernel.bind(line, start._replace(lengthscales=line.lengthscales(len(start.lengthscales))))
        else:
            kernel = self.kernel.bind(axis, start)
        bound = Nearest(kernel, int(self.neighbours), metric)
        check_positive_definite(kernel, lambda one, x: Nearest(one, 1, metric)._among(x), axis.points)
        return bound.at_levels(axis.points)

    def _among(self, points: Float[np.ndarray, "T ..."]) -> Float[Array, "R T T"]:
        assert self.metric is not None
        places = self.metric.place(jnp.asarray(points, float))
        return self._covariance(places[:, None], places[None])

    def at_levels(self, points: Float[np.ndarray, "T ..."]) -> Nearest:
        """The same hyper-parameters over these levels, which may be unsorted and repeated."""
        assert self.metric is not None
        distinct = np.unique(np.asarray(points, float), axis=0)
        places = self.metric.place(jnp.asarray(distinct))
        if self.metric.sphere is not None:
            places = jnp.round(places, _MILLIMETRES)
        circle = self.kernel.circle()
        if circle is not None and places.shape[1] == 1:
            places = circle_places(places[:, 0], jnp.max(circle))
        hoods = neighbourhoods(distinct, np.asarray(places, float), self.neighbours)
        return Nearest(self.kernel, self.neighbours, self.metric, hoods)

    def _covariance(self, a: Float[Array, "... E"], b: Float[Array, "... E"]) -> Float[Array, "R ..."]:
        """Of the functions at places, which are broadcast against each other: the one call of the kernel."""
        return self.kernel.covariance(euclidean(a, b))

    def _parts(self) -> tuple[Metric, Neighbourhoods]:
        assert self.metric is not None and self.hoods is not None
        return self.metric, self.hoods

    def _places(self, points: Float[Array, "M ..."], dtype: Any) -> Float[Array, "M E"]:
        return self._parts()[0].place(points.astype(dtype))

    def conditionals(self, dtype: Any) -> Conditionals:
        """Of every row.

        Args:
            dtype: of the answer.
        """
        hoods = self._parts()[1]
        places = self._places(hoods.points, dtype)
        return conditionals(self._covariance, places, places, hoods.neighbours)

    def _field(self, dtype: Any) -> Field:
        hoods = self._parts()[1]
        return Field(Pattern(hoods.neighbours, hoods.slots, hoods.chunk), *self.conditionals(dtype))

    def _pool(self, points: Float[Array, "T ..."], sites: Sites) -> tuple[Sites, Int[Array, "T"]]:
        """Sites of the rows, about zero, and the row of each point."""
        hoods, sites = self._parts()[1], sites.about(None)
        place = hoods.place(points)
        rows = hoods.points.shape[0]
        eta, precision = (jax.ops.segment_sum(s, jnp.maximum(place, 0), num_segments=rows) for s in sites[:2])
        return Sites(eta, precision), place

    def _is_small(self, rank: int) -> bool:
        return self._parts()[1].points.shape[0] * rank <= EXACT

    def _exactly(self, points: Float[Array, "T ..."], sites: Sites) -> tuple[Solved, Float[Array, "R T T"]]:
        """The posterior by dense algebra, and the root of the prior's covariance."""
        pooled, place = self._pool(points, sites)
        field = self._field(pooled.eta.dtype)
        rows, R, _ = field.weights.shape
        at = jnp.arange(rows)[:, None], field.pattern.safe
        root = one_by_one(
            lambda weights, sd: solve_triangular(
                jnp.eye(rows, dtype=sd.dtype).at[at].add(-weights), jnp.diag(sd), lower=True, unit_diagonal=True
            ),
            jnp.swapaxes(field.weights, 0, 1),
            jnp.sqrt(field.variance).T,
        )
        K = jnp.einsum("rij,rkj->rik", root, root)
        return solve(K, pooled, self._parts()[1].points, jnp.ones(rows, bool), place), root

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Conditions all levels and components at once; every point must be one of the levels (else NaN)."""
        if not self._is_small(sites.eta.shape[1]):
            return _posterior_of_many(self, points, sites)
        solved, root = self._exactly(points, sites)
        found = solved.at(solved.K, jnp.swapaxes(root, -1, -2), root)
        mean, cov = found.mean, found.covariance()
        return _belief(
            _AtRows(mean, cov, solved.energy, solved.log_det, solved.log_normaliser), solved.place, points, sites
        )

    def _many(self, belief: Belief) -> Many:
        pooled, _ = self._pool(belief.points, belief.sites)
        return solve_many(self._field(pooled.eta.dtype), pooled)

    def _given(self, points: Float[Array, "M ..."], dtype: Any) -> tuple[Conditionals, Int[Array, "M k"]]:
        """New points given the rows near them."""
        hoods = self._parts()[1]
        places, asked = self._places(hoods.points, dtype), self._places(points, dtype)
        index = hoods.near(places, asked)
        return conditionals(self._covariance, asked, places, index), index

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Kriging from the posterior at the levels around each point."""
        dtype, R = belief.mean.dtype, belief.mean.shape[1]
        if self._is_small(R):
            solved, root = self._exactly(belief.points, belief.sites)

            def some(points: Float[Array, "K ..."]) -> Marginals:
                (weights, variance), index = self._given(points, dtype)
                spread = jnp.zeros((R, points.shape[0], root.shape[1]), dtype)
                spread = spread.at[:, jnp.arange(points.shape[0])[:, None], index].set(jnp.moveaxis(weights, 1, 0))
                whitened = jnp.einsum("rts,rmt->rsm", root, spread)
                found = solved.at(jnp.einsum("rts,rsm->rtm", root, whitened), whitened, root)
                return Marginals(found.mean, found.covariance() + jax.vmap(jnp.diag)(variance))

            return in_chunks(some, new_points, R, root.shape[1])
        many = self._many(belief)
        draws = many.draws_of(many.covariance())

        def few(points: Float[Array, "K ..."]) -> Marginals:
            (weights, variance), index = self._given(points, dtype)
            mean = jnp.einsum("mrk,mkr->mr", weights, many.mean[index])
            drawn = jnp.einsum("mrk,mkrs->mrs", weights, draws[index])
            cov = jnp.einsum("mrs,mqs->mrq", drawn, drawn) / draws.shape[-1]
            return Marginals(mean, cov + jax.vmap(jnp.diag)(variance))

        return in_chunks(few, new_points, R, draws.shape[-1] * (self.neighbours + 1))

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Draws at the levels, then at the new points one after the other."""
        dtype, R = belief.mean.dtype, belief.mean.shape[1]
        first, second = jax.random.split(key)
        if self._is_small(R):
            solved, root = self._exactly(belief.points, belief.sites)
            found = solved.at(solved.K, jnp.swapaxes(root, -1, -2), root)
            z, noise = jax.random.normal(first, (2, n, found.gain.shape[-1]), dtype)
            values = jnp.einsum("rmi,ni->mrn", found.reduced, z) - jnp.einsum("rmi,ni->mrn", found.gain, noise)
            values = found.mean[..., None] + values
        else:
            values = draw_many(self._many(belief), first, n)
        return jnp.moveaxis(self._elsewhere(values, new_points, second), -1, 0)

    def _elsewhere(self, values: Float[Array, "rows R n"], points: Float[Array, "M ..."], key: Key) -> Array:
        """(M, R, n) draws at new points given those at all rows."""
        rows, R, n = values.shape
        M, dtype = points.shape[0], values.dtype
        noise = jax.random.normal(key, (M, R, n), dtype)
        if M > JOINTLY:
            (weights, variance), index = self._given(points, dtype)
            own = jnp.sqrt(variance)[..., None] * noise[group_equal(points)]
            drawn = jax.lax.map(lambda one: jnp.einsum("rk,krn->rn", one[0], values[one[1]]), (weights, index))
            return drawn + own
        hoods = self._parts()[1]
        places, asked = self._places(hoods.points, dtype), self._places(points, dtype)
        square = jnp.sum((asked[:, None] - asked[None]) ** 2, axis=-1)
        before = jnp.where(jnp.tri(M, k=-1, dtype=bool), square, jnp.inf)
        apart, new = jax.lax.top_k(-before, min(self.neighbours, M))
        new = jnp.where(jnp.isfinite(apart), rows + new, -1)
        index = jnp.concatenate([hoods.near(places, asked).astype(new.dtype), new], axis=1)
        weights, variance = conditionals(self._covariance, asked, jnp.concatenate([places, asked]), index)

        def step(known: Array, one: tuple[Array, ...]) -> tuple[Array, None]:
            at, chosen, weight, sd, e = one
            value = jnp.einsum("rk,krn->rn", weight, known[jnp.maximum(chosen, 0)]) + sd[:, None] * e
            return jax.lax.dynamic_update_index_in_dim(known, value, at, 0), None

        known = jnp.concatenate([values, jnp.zeros((M, R, n), dtype)])
        steps = (rows + jnp.arange(M), index, weights, jnp.sqrt(variance), noise)
        return jax.lax.scan(step, known, steps)[0][rows:]

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each row."""
        return self._parts()[1].points.shape[0], rank

    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """The levels one chunk after the other, driven by the noise."""
        hoods = self._parts()[1]
        return Colouring(_coloured, self._field(points.dtype), hoods.place(points))


def _coloured(field: Field, place: Int[Array, "T"], white: Float[Array, "rows R"]) -> Float[Array, "T R"]:
    return jnp.where(place[:, None] >= 0, field.coloured(white)[place], jnp.nan)


class _AtRows(NamedTuple):
    """What is known of all rows."""

    mean: Float[Array, "rows R"]
    cov: Float[Array, "rows R R"]
    energy: Float[Array, ""]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]


def _belief(found: _AtRows, place: Int[Array, "T"], points: Float[Array, "T ..."], sites: Sites) -> Belief:
    """The belief at the points; a point that is no level has none."""
    known = place >= 0
    mean = jnp.where(known[:, None], found.mean[place], jnp.nan)
    cov = jnp.where(known[:, None, None], found.cov[place], jnp.nan)
    kl = divergence(cov, sites.precision, found.energy, found.log_det)
    return Belief(mean, cov, found.log_normaliser, kl, points, sites)


def _of_many(prior: Nearest, points: Array, sites: Sites) -> tuple[Belief, Many]:
    pooled, place = prior._pool(points, sites)
    many = solve_many(prior._field(pooled.eta.dtype), pooled)
    found = _AtRows(many.mean, many.covariance(), many.energy, many.log_det, many.log_normaliser)
    return _belief(found, place, points, sites), many


@eqx.filter_custom_vjp
def _posterior_of_many(prior: Nearest, points: Array, sites: Sites) -> Belief:
    """The posterior by sparse algebra. Of what it gives, the log-normaliser can be differentiated by the prior."""
    return _of_many(prior, points, sites)[0]


@_posterior_of_many.def_fwd
def _forward(perturbed: Any, prior: Nearest, points: Array, sites: Sites) -> tuple[Belief, Any]:
    belief, many = _of_many(prior, points, sites)
    return belief, slopes(many)


@_posterior_of_many.def_bwd
def _backward(kept: Any, cotangents: Belief, perturbed: Any, prior: Nearest, points: Array, sites: Sites) -> Any:
    if jax.tree.leaves([one for name, one in cotangents._asdict().items() if name != "log_normaliser"]):
        raise TypeError("only the log-normaliser of a Nearest posterior has derivatives")
    learned, held = eqx.partition(prior, perturbed)
    dtype = sites.eta.dtype
    pull = jax.vjp(lambda learned: eqx.combine(learned, held).conditionals(dtype), learned)[1]
    return pull(jax.tree.map(lambda slope: cotangents.log_normaliser * slope, kept))[0]

"""Samples learned one after the other in the K-FAC metric, between two of its renewals; see `KFac`."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from streamil.kernels.cpu.activity import activities, sloping, weaken
from streamil.kernels.cpu.errors import forward
from streamil.kernels.cpu.kept import kept
from streamil.kernels.cpu.products import (
    COMPILED,
    ONE,
    ZERO,
    add_rows,
    feed_back_outputs,
    feed_back_rows,
    nonzero,
    outputs,
    softmax,
    squares,
)
from streamil.kernels.cpu.record import Bounds, reaches
from streamil.learners.ray import MOST_ITERATIONS
from streamil.learners.step_size import LARGEST_LEAD, SLOWEST, SMALLEST_PROBABILITY

EPSILON = float(np.finfo(np.float32).eps)
ROUNDING = 4 * float(np.finfo(np.float64).eps)
LEAD, LEAST = np.float32(LARGEST_LEAD), np.float32(SMALLEST_PROBABILITY)
TINY, SMALL = np.float32(1e-12), np.float32(1e-6)


class KFacRule(NamedTuple):
    """What all members have in common: number of the nonlinearity, and what `KFacHyperparameters` calls structural.

    `ray` tells il-kfac from bp-kfac.
    """

    kind: int
    ray: bool
    adaptive: bool
    biases: bool


class KFacRates(NamedTuple):
    """Hyperparameters of one member, as `KFacHyperparameters` has them."""

    alpha_gain: Any
    alpha_min: Any
    alpha_max: Any
    average_rate: Any
    share: Any
    forget: Any
    epsilon: Any
    precision_rate: Any
    precision_damping: Any


class KFacState(NamedTuple):
    """A population's state, for each layer, its arrays written in place.

    Attributes
    ----------
    weights, lags
        [A, in, out], the last one [A, out, in].
    biases, lag_biases, squares
        [A, 1, out].
    inverses, gathered
        P [A, in + 1, in + 1] and rows kept for its renewal [A, K, in + 1]; those of the input layer stand aside.
    steering
        Step size, lead and scale, [3] of [A].
    """

    weights: Any
    biases: Any
    lags: Any
    lag_biases: Any
    squares: Any
    inverses: Any
    gathered: Any
    steering: Any


class Projected(NamedTuple):
    """The input layer's part that is the same for all members of a group: u = P r~ [G, K, n + 1], u . r~ [G, K]."""

    u: Any
    square: Any
    group: Any


@njit(**COMPILED)
def times(inverse: Any, bias: Any, r: Any, n: int, rows: Any, count: int, u: Any) -> Any:
    """Write P r~ into u [n + 1], of r [n] those named being not zero; return r~ . P r~."""
    for k in range(n + 1):
        u[k] = bias * inverse[n, k]
    add_rows(inverse, r, rows, count, n + 1, u)
    total = bias * u[n]
    for k in range(n):
        total += u[k] * r[k]
    return total


@njit(**COMPILED)
def fast(kind: int, state: KFacState, a: int, sizes: Any, x: Any, rows: Any, p: Any, r: Any) -> int:
    """Run member a's fast weights on x; leave p, r, and in rows[0] the inputs that are not zero; return their count."""
    count: int = nonzero(x, sizes[0], rows[0])
    for i in range(sizes[0]):
        r[0, i] = x[i]
    forward(kind, state.weights, state.biases, a, sizes, rows[0], count, rows[1], p, r)
    return count


@njit(**COMPILED)
def averaged(kind: int, state: KFacState, a: int, sizes: Any, inputs: Any, count: int, rows: Any, x: Any, first: Any,
             p: Any, r: Any, room: Any) -> None:
    """Leave the averaged weights' predictions of x in p, `first` being p_1 of the fast ones."""
    last = len(sizes) - 2
    for layer in range(last + 1):
        n, m = sizes[layer], sizes[layer + 1]
        out, lag, lag_bias = p[layer + 1], state.lags[layer][a], state.lag_biases[layer][a, 0]
        if layer == last:
            outputs(lag, x if layer == 0 else r[layer], n, m, lag_bias, out)
            if layer:
                outputs(state.weights[layer][a], r[layer], n, m, state.biases[layer][a, 0], room)
            more = room if layer else first
            for j in range(m):
                out[j] += more[j]
            continue
        bias = state.biases[layer][a, 0] if layer else first
        for j in range(m):
            out[j] = bias[j] + lag_bias[j]
        if layer:
            listed = nonzero(r[layer], n, rows)
            add_rows(state.weights[layer][a], r[layer], rows, listed, m, out)
            add_rows(lag, r[layer], rows, listed, m, out)
        else:
            add_rows(lag, x, inputs, count, m, out)
        activities(kind, out, m, r[layer + 1])


@njit(**COMPILED)
def mix(state: KFacState, rates: KFacRates, a: int, label: int, live: Any, classes: int, fast: Any, slow: Any,
        logits: Any) -> Any:
    """Write the mixture's logits, of probabilities fast and slow; return ln fast - ln slow of the label."""
    part = rates.share + (ONE - rates.share - rates.share) / (ONE + np.exp(-state.steering[1][a]))
    for j in range(classes):
        mixed = slow[j] + part * (fast[j] - slow[j])
        logits[j] = np.log(mixed + TINY) if live[j] else np.float32(-np.inf)
    of_fast = LEAST if fast[label] < LEAST else fast[label]  # nan stays
    of_slow = LEAST if slow[label] < LEAST else slow[label]
    return np.log(of_fast) - np.log(of_slow)


@njit(**COMPILED)
def steered(rates: KFacRates, before: Any, edges: Any, size: int, seen: int) -> Any:
    """Return step size, lead and scale after a mini-batch, as `StepSize.after` has it."""
    alpha, lead, scale = before
    growth = ZERO
    for b in range(size):
        d = edges[b]
        lead = d + rates.forget * lead
        lead = LEAD if lead > LEAD else (-LEAD if lead < -LEAD else lead)
        scale += np.float32(max(SLOWEST, 1.0 / (seen + b + 1))) * (abs(d) - scale)
        growth += d / (scale + SMALL)
    alpha *= np.exp(rates.alpha_gain * growth)
    alpha = rates.alpha_min if alpha < rates.alpha_min else alpha
    return rates.alpha_max if alpha > rates.alpha_max else alpha, lead, scale


@njit(**COMPILED)
def moments(p: Any, k: Any, tau: Any, live: Any, m: int) -> Any:
    """Return the means of k and k^2 under the softmax of p + tau k, in float64."""
    top = -np.inf
    for j in range(m):
        if live[j]:
            top = max(top, np.float64(p[j]) + tau * np.float64(k[j]))
    total = first = second = 0.0
    for j in range(m):
        if live[j]:
            kj = np.float64(k[j])
            z = np.exp(np.float64(p[j]) + tau * kj - top)
            total += z
            first += z * kj
            second += z * kj * kj
    return first / total, second / total


@njit(**COMPILED)
def gain(p: Any, k: Any, label: int, live: Any, m: int) -> Any:
    """Return `streamil.learners.ray.gain` of one sample: p [m], and k [m], its change for tau = 1."""
    mean, square = moments(p, k, 0.0, live, m)
    pull = np.float64(k[label]) - mean
    spread = 0.0
    for j in range(m):
        if live[j]:
            spread += abs(np.float64(k[j]))
    enough = max(EPSILON * pull, ROUNDING * spread)
    tau, low, high, residual, last = 0.0, 0.0, 1.0, pull, np.inf
    for _ in range(MOST_ITERATIONS):
        if not (abs(residual) > enough and last > EPSILON / 2 * tau):
            break
        if residual > 0:
            low = tau
        else:
            high = tau
        step = residual / max(square - mean * mean + pull, pull)
        if not (low < tau + step <= high and abs(step) <= last / 2):
            step = (low + high) / 2 - tau
        last = abs(step)
        tau += step
        mean, square = moments(p, k, tau, live, m)
        residual = np.float64(k[label]) - mean - tau * pull
    return np.float32(tau if np.isfinite(residual) else np.nan)


@njit(**COMPILED)
def move(w: Any, factors: Any, values: Any, n: int, width: int) -> None:
    """Add the product of factors [n] and values [width] to w."""
    for i in range(n):
        c = factors[i]
        for j in range(width):
            w[i, j] += c * values[j]


@njit(**COMPILED)
def move_and_follow(w: Any, lag: Any, factors: Any, values: Any, n: int, width: int, keep: Any) -> None:
    """Add the product of factors [n] and values [width] to w, and let the average minus w follow."""
    for i in range(n):
        c = factors[i]
        for j in range(width):
            step = c * values[j]
            w[i, j] += step
            lag[i, j] = keep * (lag[i, j] - step)


def _project(sources: str) -> Any:
    def project(inverse: Any, bias: Any, x: Any, projected: Projected, rows: Any) -> None:
        """Fill `projected` for the samples x [K, F], with P [G, F + 1, F + 1]; rows [>= F] are working memory."""
        sources  # noqa: B018
        n = x.shape[1]
        for s in range(len(x)):
            count = nonzero(x[s], n, rows)
            for g in range(len(inverse)):
                projected.square[g, s] = times(inverse[g], bias, x[s], n, rows, count, projected.u[g, s])

    return project


def _learn(sources: str) -> Any:
    def learn(rule: KFacRule, members: Any, table: Any, sizes: Any, state: KFacState, projected: Projected, size: int,
              origin: int, begin: int, end: int, samples: int, learned: int, place: int, x: Any, y: Any, live: Any,
              known: int, logits: Any, energy: Any, diverged: Any, bounds: Bounds, careless: bool, room: Any, rows: Any,
              edges: Any, done: Any) -> None:
        """Let the members named predict each mini-batch as it begins, and learn the samples from `begin` to `end`.

        Parameters
        ----------
        members, table
            Places of the members; their rates [A, 9], in the order of `KFacRates`.
        projected
            Of the samples from `origin` on.
        size
            Samples of a mini-batch; the first one begins with x [N, F] and y [N].
        samples, learned
            How many there were before `origin`, in all and since two classes were live.
        place
            Row of `gathered` for the sample `origin`.
        live, known
            Classes [C] that take part, and their count.
        logits, energy
            Filled: [A, N, C], [A] of the last sample.
        diverged
            Members [A] that do not learn any more.
        bounds, careless
            A member stops before an update that could reach the limit, unless told not to care.
        room, rows, edges
            Working memory: [7, L + 1, n + 1], [2, n + 1], [B].
        done
            Filled: samples [A] of these that each member has taken.
        """
        sources  # noqa: B018
        last = len(sizes) - 2
        classes, one = sizes[last + 1], ONE if rule.biases else ZERO
        p, r, averages, g, u, z, spare = room[0], room[1], room[2], room[3], room[4], room[5], room[6]
        for at in range(len(members)):
            a = members[at]
            rates = KFacRates(table[a, 0], table[a, 1], table[a, 2], table[a, 3], table[a, 4], table[a, 5],
                              table[a, 6], table[a, 7], table[a, 8])
            done[a] = 0
            alpha, lead, scale = state.steering[0][a], state.steering[1][a], state.steering[2][a]
            for s in range(begin, end):
                first = s % size == 0
                for b in range(size if first else 1):  # the whole mini-batch is predicted before any of it is learned
                    count = fast(rule.kind, state, a, sizes, x[s + b], rows, p, r)
                    if not first:
                        continue
                    if not rule.adaptive:
                        for j in range(classes):
                            logits[a, s + b, j] = p[last + 1, j] if live[j] else np.float32(-np.inf)
                        continue
                    averaged(rule.kind, state, a, sizes, rows[0], count, rows[1], x[s + b], p[1], averages, spare,
                             g[0])
                    softmax(p[last + 1], live, classes, g[0])
                    softmax(averages[last + 1], live, classes, g[1])
                    edges[b] = mix(state, rates, a, y[s + b], live, classes, g[0], g[1], logits[a, s + b])
                if first and rule.adaptive:
                    alpha, lead, scale = steered(
                        rates, (state.steering[0][a], state.steering[1][a], state.steering[2][a]), edges, size,
                        learned + s - origin)
                if diverged[a]:
                    done[a] += 1
                    continue
                if first and size > 1:
                    fast(rule.kind, state, a, sizes, x[s], rows, p, r)
                number = learned + s - origin + 1
                newest = max(rates.precision_rate, np.float32(1.0 / number))
                top = g[last + 1]
                softmax(p[last + 1], live, classes, top)
                for j in range(classes):
                    top[j] = -top[j]
                top[y[s]] += ONE
                reach = left = ZERO
                for layer in range(last, -1, -1):  # gradients, then norms and step sizes
                    n, m = sizes[layer], sizes[layer + 1]
                    if layer < last:
                        above = sizes[layer + 2]
                        if layer + 1 == last:
                            feed_back_outputs(state.weights[last][a], top, m, above, g[last])
                        else:
                            feed_back_rows(state.weights[layer + 1][a], g[layer + 2], rows[1],
                                           sloping(rule.kind, r[layer + 1], m, rows[1]), above, g[layer + 1])
                        weaken(rule.kind, g[layer + 1], r[layer + 1], m)
                    if layer:
                        listed = nonzero(r[layer], n, rows[1])
                        norm = times(state.inverses[layer][a], one, r[layer], n, rows[1], listed, u[layer])
                        length = squares(u[layer], n + 1)
                    else:
                        group, sample = projected.group[a], s - origin
                        norm = projected.square[group, sample]
                        length = squares(projected.u[group, sample], n + 1)
                    norm += rates.epsilon
                    gl, zl, square = g[layer + 1], z[layer + 1], state.squares[layer][a, 0]
                    total = ZERO
                    for j in range(m):
                        zl[j] = square[j] + newest * (gl[j] * gl[j] - square[j])
                        total += zl[j]
                    mean = total / np.float32(known if layer == last else m)
                    power = squares(gl, m)
                    reach = reach if power <= reach else power
                    for j in range(m):  # the step over the norm: what u is multiplied by
                        mixed = zl[j] + rates.precision_damping * (mean - zl[j]) + TINY
                        zl[j] = alpha / mixed * gl[j]
                        left += norm * zl[j] * gl[j]
                    spare[layer, 0] = norm
                    step = np.sqrt(squares(zl, m) * max(length, ONE))
                    reach = reach if step <= reach else step
                if rule.ray:
                    k = averages[last + 1]
                    for layer in range(last + 1):
                        n, m, norm = sizes[layer], sizes[layer + 1], spare[layer, 0]
                        k = averages[layer + 1]
                        for j in range(m):
                            k[j] = norm * z[layer + 1, j]
                        if layer == 0:
                            continue
                        below = averages[layer]
                        weaken(rule.kind, below, r[layer], n)
                        if layer == last:
                            outputs(state.weights[layer][a], below, n, m, k, k)
                        else:
                            add_rows(state.weights[layer][a], below, rows[1], nonzero(below, n, rows[1]), m, k)
                    tau = gain(p[last + 1], k, y[s], live, classes)
                    energy[a] = np.float32(0.5) * tau * tau * left
                    for layer in range(1, last + 2):
                        for j in range(sizes[layer]):
                            z[layer, j] *= tau
                    reach = reach if tau == tau else tau
                if not careless and not reaches(bounds, a, reach, False):
                    break
                keep = ONE - max(rates.average_rate, np.float32(1.0 / (samples + s - origin + 2)))
                for layer in range(last + 1):
                    n, m = sizes[layer], sizes[layer + 1]
                    w, b_l, zl = state.weights[layer][a], state.biases[layer][a, 0], z[layer + 1]
                    ul = u[layer] if layer else projected.u[projected.group[a], s - origin]
                    factors, values = (zl, ul) if layer == last else (ul, zl)
                    if layer == last:
                        n, m = m, n
                    if rule.adaptive:
                        move_and_follow(w, state.lags[layer][a], factors, values, n, m, keep)
                    else:
                        move(w, factors, values, n, m)
                    n, m = sizes[layer], sizes[layer + 1]
                    if rule.biases:
                        for j in range(m):
                            step = ul[n] * zl[j]
                            b_l[j] += step
                            if rule.adaptive:
                                lag = state.lag_biases[layer][a, 0]
                                lag[j] = keep * (lag[j] - step)
                    gl, square = g[layer + 1], state.squares[layer][a, 0]
                    for j in range(m):
                        square[j] += newest * (gl[j] * gl[j] - square[j])
                    if layer:
                        row = state.gathered[layer][a, place + s - origin]
                        for i in range(n):
                            row[i] = r[layer, i]
                state.steering[0][a], state.steering[1][a], state.steering[2][a] = alpha, lead, scale
                done[a] += 1

    return learn


project, learn = kept(_project), kept(_learn)

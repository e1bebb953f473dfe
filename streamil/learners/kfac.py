"""What il-kfac and bp-kfac share: the K-FAC metric, the unit precision, the step that follows the stream."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners.factors import Factors, bias_step
from streamil.learners.hyperparameters import MemberHyperparameters, RuleHyperparameters
from streamil.learners.kfac_hyperparameters import KFacHyperparameters
from streamil.learners.metric import WIDEST, Metric, recursion
from streamil.learners.predictor import Mixture, Predictor
from streamil.learners.stacked import StackedPopulation
from streamil.learners.step_size import StepSize, log_ratio


class KFac(StackedPopulation):
    r"""One step in the K-FAC metric; a rule says how it finds the errors $e_l$ that the weights then take up.

    With $\tilde r_l = [f(h_{l-1}), 1]$ of the feedforward pass ($f(h_0) = x$), $M_l$ its running covariance and
    $P_l = (M_l + \delta I)^{-1}$:

    - $n_l = c + \tilde r^T P_l \tilde r$; $g_L = y - \mathrm{softmax}(p_L)$, $g_l = f'(p_l) W_{l+1}^T g_{l+1}$;
    - $v_l \leftarrow v_l + \max(\rho_u, 1/k)(g_l^2 - v_l)$, $a_l = \alpha n_l / ((1 - d) v_l + d\,\mathrm{mean}(v_l))$;
    - $d\tilde W_l = e_l (P_l \tilde r)^T / n_l$, one sample after the other (`sequential`) or their mean (`mean`), or
      jointly $E^T (R P R^T + c I)^{-1} R P$ (`affine-projection`).

    Adaptive members keep a running average of their weights, as the slot `lag` (average minus weights), predict by a
    mixture of both, and lengthen their step while the fast weights are the better ones. See `StepSize`.

    While fewer than two classes are live only $M_l$ goes on. A class met later starts with the mean v of the live ones.
    Members of equal metric_rate, damping and refresh share $M_1$, which goes on when one of them has diverged.
    """

    def __init__(
        self, layers: Sequence[int], members: Sequence[RuleHyperparameters], *args: Any, **options: Any
    ) -> None:
        own = [cast(KFacHyperparameters, member) for member in members]
        self._settings = own[0]
        self.slots = ("lag",) if own[0].adaptive else ()
        every = [(member.metric_rate, member.damping) for member in own]
        kinds = list(dict.fromkeys(every))
        self.numbers_held(layers, own, options["batch_size"])  # a layer too wide is refused before it is allocated
        super().__init__(layers, members, *args, **options)
        self._samples = self._renewed = self._learned = 0  # all; at the last renewal; since two classes were live
        kept = [(len(every) if layer else len(kinds)) * (n + 1) ** 2 for layer, n in enumerate(self.layers[:-1])]
        self._scratch = self._like.new_empty(3 * max(kept))
        self._metrics = [self._metric(n, every if layer else kinds, every) for layer, n in enumerate(self.layers[:-1])]
        self._squares = [self._like.new_zeros(len(own), 1, n) for n in self.layers[1:]]
        zero = torch.zeros_like(self._alpha)
        self._step_size = StepSize(self._alpha.clone(), zero, zero.clone())

    @classmethod
    def numbers_held(cls, layers: Sequence[int], members: Sequence[MemberHyperparameters], batch_size: int) -> int:
        """Return the count of weights, averages of adaptive members, M and P of every layer and member, rows for them.

        Members of one stack share the rows of the first layer, those of equal metric_rate and damping M and P, too.

        Raises
        ------
        LearnerError
            For a layer with too many inputs, with the bytes that its metrics would need in float32.
        """
        own = [cast(KFacHyperparameters, member) for member in members]
        first = len({(*member.structure, member.metric_rate, member.damping) for member in own})
        values = 2 * sum((n + 1) ** 2 * (len(own) if layer else first) for layer, n in enumerate(layers[:-1]))
        stacks = {member.structure: member for member in own}.values()
        rows = sum((member.refresh + batch_size) * (n + 1) for layer, n in enumerate(layers[:-1])
                   for member in (own if layer else stacks))
        if max(layers[:-1]) > WIDEST:
            raise LearnerError(
                f"layers: got {list(layers)}, at most {WIDEST} inputs a layer are allowed: {cls.algorithm} keeps a "
                f"metric of inputs x inputs, here {4 * values} bytes in float32; il-prox keeps none"
            )
        averages = [member for member in own if member.adaptive]
        return super().numbers_held(layers, [*own, *averages], batch_size) + values + rows

    def _metric(self, inputs: int, kinds: list[tuple[float, float]], every: list[tuple[float, float]]) -> Metric:
        shared = kinds is not every
        return Metric(
            inputs, [rate for rate, _ in kinds], [damping for _, damping in kinds],
            [kinds.index(kind) for kind in every] if shared else range(len(every)), shared=shared,
            capacity=self._settings.refresh + self.batch_size, bias=float(self._train_biases),
            scratch=self._scratch,
        )

    @property
    def alpha(self) -> Tensor:
        """Step size [A] of each member, as the last mini-batch used it."""
        return self._step_size.alpha.flatten().clone()

    @abstractmethod
    def _errors(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor, gradients: list[Tensor], steps: list[Tensor]
    ) -> list[Tensor]:
        """Return the errors e_l [A, K, n_l], from the feedforward pass, g_l and the step sizes a_l."""

    def _refresh(self) -> None:
        super()._refresh()
        self._alpha, self._epsilon = self._values("alpha"), self._values("epsilon")
        self._share, self._precision_damping = self._values("share"), self._values("precision_damping")
        self._steering = {
            "gain": self._values("alpha_gain"), "forget": self._values("forget"),
            "lowest": self._values("alpha_min"), "highest": self._values("alpha_max"),
        }
        self._average_rate = self._values("average_rate")
        self._precision_rate = self._values("precision_rate")
        self._classes = torch.arange(len(self._live), device=self._like.device)

    def _answer(self, predictions: list[Tensor], x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits, of the mixture if adaptive; with labels [B], judge the fast weights against their average."""
        if not self._settings.adaptive:
            return self._masked(predictions[-1])
        if not self._known:
            if labels is not None:
                self._edge = self._like.new_zeros(len(self.seeds), x.shape[1], 1)
            return self._masked(predictions[-1])
        fast, slow = self._softmax(predictions[-1]), self._softmax(self._averaged(predictions[0], x))
        if labels is not None:
            self._edge = log_ratio(fast, slow, (labels.unsqueeze(1) == self._classes).to(fast.dtype))
        return self._masked(torch.lerp(slow, fast, self._step_size.weight(self._share)).add_(1e-12).log_())

    def predictor(self, member: int) -> torch.nn.Module:
        """Return what predicts as a torch module, the mixture if adaptive; see `Population.predictor`."""
        fast = self.to_module(member)
        if not self._settings.adaptive:
            return Predictor(fast, self._live)
        slow, lags = copy.deepcopy(fast), self.parameters.slots["lag"]
        with torch.no_grad():
            for parameter, lag in zip(slow.parameters(), lags, strict=True):
                parameter.add_(lag[member].reshape(parameter.shape))
        return Mixture(fast, slow, self._step_size.weight(self._share)[member].reshape(1), self._live)

    def _averaged(self, first: Tensor, x: Tensor) -> Tensor:
        """Return the averaged weights' logits of x [A, B, F], `first` being p_1 of the fast ones."""
        own, lag = self.parameters, self.parameters.slots["lag"]
        p, h = first, x
        for layer, (weight, bias) in enumerate(zip(lag[::2], lag[1::2], strict=True)):
            if layer:
                h = self.activation.apply(p)
                p = torch.baddbmm(own.b[layer], h, own.WT[layer])
            p = torch.baddbmm(bias, h, weight.mT).add_(p)
        return p

    def _learn(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> None:
        if self._settings.adaptive:
            self._next_size = self._step_size.after(self._edge, self._learned, **self._steering)
        else:
            self._next_size = self._step_size
        for one in self._shares():
            if one.stop - one.start < self.batch_size:
                predictions, presynaptic = self.parameters.forward(self._x_members[:, one], self.activation)
            self._commit(self._factors(predictions, presynaptic, labels[one]))

    def _wait(self, presynaptic: list[Tensor]) -> None:
        for one in self._shares():
            self._absorb([r[:, one] for r in presynaptic])

    def _shares(self) -> list[slice]:
        """Return what is learned at once: every sample alone, or the whole mini-batch."""
        size = 1 if self._settings.batch_rule == "sequential" else self.batch_size
        return [slice(row, row + size) for row in range(0, self.batch_size, size)]

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        gradients = [labels - self._softmax(predictions[-1])]
        for weight, r in zip(self.parameters.W[:0:-1], presynaptic[:0:-1], strict=True):
            gradients.insert(0, self.activation.backward(torch.bmm(gradients[0], weight), r))
        projected = [metric.times(r) for metric, r in zip(self._metrics, presynaptic, strict=True)]
        norms = [square + self._epsilon for _, square in projected]
        self._next_squares = self._moved_squares(gradients)
        steps = [
            self._next_size.alpha * n / self._mixed_square(v, last=v is self._next_squares[-1])
            for n, v in zip(norms, self._next_squares, strict=True)
        ]
        errors = self._errors(predictions, presynaptic, labels, gradients, steps)
        self._taken = presynaptic
        return [
            self._local_update(e, r, u, n)
            for e, r, (u, _), n in zip(errors, presynaptic, projected, norms, strict=True)
        ]

    def _moved_squares(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return v_l after the samples of g_l, in their order."""
        first, count = self._learned + 1, gradients[0].shape[1]
        if count == 1:
            weights = self._precision_rate.clamp_min(1 / first)
            keep = 1 - weights
        else:
            rates = recursion(self._precision_rate.flatten().tolist(), first, count)
            keep, weights = (torch.from_numpy(each).to(self._like).view(len(self.seeds), 1, -1) for each in rates)
        moved = [torch.baddbmm(v * keep, weights, g.square()) for v, g in zip(self._squares, gradients, strict=True)]
        if self._stopped:
            still = self._diverged.view(-1, 1, 1)
            moved = [torch.where(still, v, new) for v, new in zip(self._squares, moved, strict=True)]
        return moved

    def _mixed_square(self, v: Tensor, *, last: bool) -> Tensor:
        """Return (1 - d) v + d mean(v); of the output, the mean of the live units, the others being 0."""
        mean = v.sum(-1, keepdim=True) / (self._known if last else v.shape[-1])
        return torch.lerp(v, mean, self._precision_damping).add_(1e-12)

    def _local_update(self, errors: Tensor, r: Tensor, u: Tensor, norms: Tensor) -> Factors:
        """Return dW~ of errors [A, K, n_l], with u = P r~ [A, K, n + 1] and norms n_l [A, K, 1]."""
        size = errors.shape[1]
        if size == 1 or self._settings.batch_rule == "mean":
            solution = errors / (norms * size if size > 1 else norms)
        else:
            gram = torch.bmm(u[..., :-1], r.mT)
            if self._train_biases:
                gram += u[..., -1:]
            gram.diagonal(dim1=-2, dim2=-1).add_(self._epsilon.squeeze(-1))
            solution = torch.linalg.solve_ex(gram, errors).result
        return Factors(solution, u[..., :-1], u[..., -1:])

    def _moves(self, factors: list[Factors]) -> list[Tensor]:
        return [*super()._moves(factors), *self._next_squares]

    def _apply(self, factors: list[Factors]) -> None:
        held = [(t, t[self._diverged]) for t in self._by_member().values()] if self._stopped else []
        super()._apply(factors)
        count = self._taken[0].shape[1]
        if self._settings.adaptive:
            self._follow(factors, self._samples + count)
        torch._foreach_copy_([*self._squares, *self._step_size], [*self._next_squares, *self._next_size])
        self._learned += count
        self._absorb(self._taken)
        for tensor, rows in held:  # average, metric and lead of those that stopped
            tensor[self._diverged] = rows

    def _follow(self, factors: list[Factors], samples: int) -> None:
        """A += max(average_rate, 1/(t + 1)) (W - A), for A - W: what is kept of it less the step just made."""
        keep = 1 - self._average_rate.clamp_min(1 / (samples + 1))
        lag = self.parameters.slots["lag"]
        for weight, bias, each in zip(lag[::2], lag[1::2], factors, strict=True):
            less = each.errors * -keep
            weight.mul_(keep).baddbmm_(less.mT, each.presynaptic)
            if self._train_biases:
                bias.mul_(keep).add_(bias_step(less, each.bias))

    def _absorb(self, presynaptic: list[Tensor]) -> None:
        """Take the samples into the metrics, and renew these when it is time."""
        for metric, r in zip(self._metrics, presynaptic, strict=True):
            metric.add(r, self._place)
        self._count(presynaptic[0].shape[1])

    @property
    def _place(self) -> int:
        """Where the metrics keep the next sample."""
        return self._samples - self._renewed

    @property
    def _due(self) -> int:
        """How many samples there are when the metrics are renewed next."""
        return self._renewed + max(1, min(self._settings.refresh, self._renewed // 4))

    def _count(self, samples: int) -> None:
        """Count samples that the metrics have been given, and renew these when it is time."""
        self._samples += samples
        if self._samples >= self._due:
            held = [(one, one.covariance[self._diverged]) for one in self._metrics[1:]] if self._stopped else []
            for metric in self._metrics:
                metric.renew(self._renewed + 1, self._place)
            for metric, rows in held:
                metric.covariance[self._diverged] = rows
            self._renewed = self._samples

    def _admit(self, newcomers: NDArray[np.int64]) -> None:
        mean = self._squares[-1].sum(-1, keepdim=True) / max(self._known, 1)
        super()._admit(newcomers)
        missing = self.layers[-1] - self._squares[-1].shape[-1]
        self._squares[-1] = torch.nn.functional.pad(self._squares[-1], (0, missing))
        self._squares[-1][..., torch.from_numpy(newcomers).to(mean.device)] = mean

    def _by_member(self) -> dict[str, Tensor]:
        own = {f"square.{layer}": v for layer, v in enumerate(self._squares)}
        for layer, metric in enumerate(self._metrics[1:], start=1):
            own |= {f"covariance.{layer}": metric.covariance, f"rows.{layer}": metric.rows}
        return {**super()._by_member(), **own, **self._step_size._asdict()}

    def _tensors(self) -> dict[str, Tensor]:
        counts = torch.tensor([self._samples, self._renewed, self._learned])
        first = self._metrics[0]
        return {**super()._tensors(), "counts": counts, "input.covariance": first.covariance, "input.rows": first.rows}

    def _restored(self, counts: dict[str, Tensor]) -> None:
        super()._restored(counts)
        self._samples, self._renewed, self._learned = counts["counts"].tolist()
        for metric in self._metrics:
            metric.invert()

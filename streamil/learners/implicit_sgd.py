"""Implicit SGD: the proximal problem itself, solved numerically; the reference that inference learning approximates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.stacked import StackedPopulation

TOLERANCE = 1e-8
"""Largest element of the objective's gradient at which the solver stops."""
CHANGE = 1e-15
"""Change of the objective, or of the weights, below which it stops too: on a kink of relu no gradient gets small."""
EVALUATIONS = 1000
"""Evaluations of the objective after which it stops at the latest."""


class ImplicitSGDHyperparameters(RuleHyperparameters):
    """Hyperparameters of `implicit-sgd`."""

    alpha: float = Field(default=1.0, gt=0, description="Step size of the proximal step.")


class ImplicitSGD(StackedPopulation):
    r"""Implicit SGD, $\theta' = \arg\min_\theta \ell(\theta) + \frac{1}{2 \alpha} \|\theta - \theta_t\|^2$.

    $\ell$ is the mini-batch's mean cross-entropy. L-BFGS with a strong Wolfe line search starts at $\theta_t$ and works
    in float64, one member after the other: tens to hundreds of gradients for one update, so this rule is for
    diagnostics and tests. With a smooth activation it ends at a gradient norm below 1e-6. A minimum of a relu network
    can lie on a kink, where no gradient is zero (with normal inputs it mostly does): the lowest point found is taken
    then. `residual` [A] is the gradient norm at the end of each member's last update.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Toulis, Airoldi: Asymptotic and finite-sample properties of estimators based on stochastic gradients. Annals of
    Statistics 45 (4), 2017.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("implicit-sgd", [3, 8, 2], [{"alpha": 0.5}], dtype="float64", activation="tanh")
    >>> losses = [population.step([[1.0, 0.0, 1.0]], [1]).loss.item() for _ in range(20)]
    >>> losses[-1] < 0.1 < losses[0], bool(population.residual < 1e-6)
    (True, True)
    """

    algorithm = "implicit-sgd"
    family = "reference"
    Hyperparameters = ImplicitSGDHyperparameters
    evaluations = EVALUATIONS

    def _refresh(self) -> None:
        super()._refresh()
        self._alpha = [float(alpha) for alpha in self._values("alpha").flatten()]
        self._rows = self._live.nonzero().flatten()
        self.residual = torch.zeros(len(self.seeds), dtype=torch.float64, device=self._like.device)

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        y = labels[:, self._rows].argmax(-1)
        moves = [[torch.zeros_like(tensor) for tensor in pair]
                 for pair in zip(self.parameters.W, self.parameters.b, strict=True)]
        for member in range(len(self.seeds)):
            if not bool(torch.isfinite(predictions[-1][member]).all()):
                moves[0][0][member] = math.nan
            elif not self._diverged[member]:
                self._solve(member, presynaptic[0][member].double(), y, moves)
        return [_as_factors(weight, bias) for weight, bias in moves]

    def _solve(self, member: int, x: Tensor, y: Tensor, moves: list[list[Tensor]]) -> None:
        """Write the member's way to its minimum into `moves`."""
        weights = zip(self.parameters.W, self.parameters.b, strict=True)
        start = [[weight[member].double(), bias[member, 0].double()] for weight, bias in weights]
        start[-1] = [tensor[self._rows] for tensor in start[-1]]  # rows of classes not met have no part in it
        kinds = 2 if self._train_biases else 1
        shapes = [tensor.shape for pair in start for tensor in pair[:kinds]]
        sizes = [shape.numel() for shape in shapes]
        move = torch.zeros(sum(sizes), dtype=torch.float64, device=x.device, requires_grad=True)

        def objective() -> Tensor:
            move.grad = None
            with torch.enable_grad():
                steps = [part.view(shape) for part, shape in zip(torch.split(move, sizes), shapes, strict=True)]
                value = self._loss(x, y, start, steps) + move.square().sum() / (2 * self._alpha[member])
                value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        self._minimise(move, objective)
        objective()
        assert move.grad is not None
        self.residual[member] = move.grad.norm()
        found = [part.view(shape) for part, shape in zip(torch.split(move.detach(), sizes), shapes, strict=True)]
        for place, step in enumerate(found):
            layer, kind = divmod(place, kinds)
            rows = self._rows if layer == len(start) - 1 else slice(None)
            target = moves[layer][1][member, 0] if kind else moves[layer][0][member]
            target[rows] = step.to(self._like)

    def _minimise(self, move: Tensor, objective: Callable[[], Tensor]) -> None:
        """Bring `move` to the minimum; each call of the objective renews its gradient."""
        solver = torch.optim.LBFGS(
            [move], max_iter=self.evaluations, max_eval=self.evaluations, tolerance_grad=TOLERANCE,
            tolerance_change=CHANGE, history_size=50, line_search_fn="strong_wolfe")
        solver.step(objective)  # type: ignore[no-untyped-call]

    def _loss(self, x: Tensor, y: Tensor, start: list[list[Tensor]], steps: list[Tensor]) -> Tensor:
        activity, per_layer = x, 2 if self._train_biases else 1
        for layer, (weight, bias) in enumerate(start):
            activity = self.activation.apply(activity) if layer else activity
            weight = weight + steps[layer * per_layer]
            bias = bias + steps[layer * per_layer + 1] if self._train_biases else bias
            activity = torch.nn.functional.linear(activity, weight, bias)
        return torch.nn.functional.cross_entropy(activity, y)


def _as_factors(weight: Tensor, bias: Tensor) -> Factors:
    """Write a full update as factors: a unit vector for each input, and one for the bias."""
    inputs = weight.shape[2]
    unit = torch.eye(inputs + 1, dtype=weight.dtype, device=weight.device).expand(len(weight), -1, -1)
    return Factors(torch.cat([weight.mT, bias], 1), unit[..., :-1], unit[..., -1:])

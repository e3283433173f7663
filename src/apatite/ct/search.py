"""Finding the map from a scan to a template: many coarse starts, a few finer ones, the best one in full.

A map is 3×4, from points relative to the scan's pivot to MNI mm. Every parameter of a family is a length in mm (turns
and scales act at 70 mm from the pivot), so one step size suits all of them.

Source: BFGS of SciPy; derivative of the rotation after Gallego and Yezzi 2015 (arXiv 1312.0788), equation III.7.
Differs: not L-BFGS-B, which wakes the threads of the linear algebra library for a dozen numbers.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from apatite.ct.matching import Samples, Score, Target, agreement

RADIUS_MM = 70.0
"""Where a turn or a scale of one unit moves a point by one mm."""
TURNS_ABOUT_X_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0)
TURNS_ABOUT_Z_DEG = (-20.0, 0.0, 20.0)
SHIFTS_ALONG_Z_MM = tuple(np.arange(-75.0, 76.0, 15.0).tolist())
MNI_OVER_HEAD = 1.07
"""MNI space is larger than most heads."""
SIZE_SPREAD = 0.08
SIZE_COST = 0.01
"""A head larger or smaller by `SIZE_SPREAD` has to score better by `SIZE_COST`; a whole one easily does."""
APART_MM = 12.0
"""Maps that differ by less than this anywhere on the head are the same start."""

Matrix = Float[np.ndarray, "3 4"]
Parameters = Float[np.ndarray, "parameters"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """A set of maps around a start.

    Attributes:
        size: How many parameters; all zero is the start itself.
        matrix: The map of given parameters.
        gradient: From the gradient in the map to the one in the parameters.
    """

    size: int
    matrix: Callable[[Parameters, Matrix], Matrix]
    gradient: Callable[[Parameters, Matrix, Matrix], Parameters]


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A map, and how well it scores."""

    matrix: Matrix
    score: float


def refine(samples: Samples, target: Target, score: Score, start: Matrix, family: Family, steps: int) -> Match:
    """Climb from a start to the best map of a family near it, in at most `steps` steps."""

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        matrix = family.matrix(parameters, start)
        value, slope = agreement(samples, target, score, matrix)
        penalty, penalty_slope = unlikely_size(matrix)
        # Scaled so that SciPy's first step, one unit along the gradient, and its tolerances are in proportion.
        return 100 * (penalty - value), 100 * family.gradient(parameters, start, penalty_slope - slope)

    found = minimize(loss, np.zeros(family.size), jac=True, method="BFGS", options={"maxiter": steps, "gtol": 0.004})
    return Match(matrix=family.matrix(found.x, start), score=-found.fun / 100)


def unlikely_size(matrix: Matrix) -> tuple[float, Matrix]:
    """What a head of unusual size costs, and its gradient: part of a head alone does not hold its scale."""
    sign, log_volume = np.linalg.slogdet(matrix[:, :3])
    if sign <= 0:
        return math.inf, np.zeros((3, 4))
    off = (log_volume / 3 - math.log(MNI_OVER_HEAD)) / SIZE_SPREAD
    slope = 2 * SIZE_COST * off / SIZE_SPREAD / 3 * np.linalg.inv(matrix[:, :3]).T
    return SIZE_COST * off**2, np.column_stack([slope, np.zeros(3)])


def starts(target_middle_mm: Float[np.ndarray, "3"]) -> list[Matrix]:
    """Heads turned and shifted along the body's axis, their pivot near the middle of the target."""
    result = []
    for about_x in TURNS_ABOUT_X_DEG:
        for about_z in TURNS_ABOUT_Z_DEG:
            turn = Rotation.from_euler("xz", [about_x, about_z], degrees=True).as_matrix()
            for shift in SHIFTS_ALONG_Z_MM:
                middle = target_middle_mm + np.array([0.0, 0.0, shift])
                result.append(np.column_stack([MNI_OVER_HEAD * turn, middle]))
    return result


def best_starts(samples: Samples, target: Target, score: Score, matrices: Sequence[Matrix], keep: int) -> list[Matrix]:
    """The starts that score best as they are."""
    scores = [agreement(samples, target, score, matrix)[0] for matrix in matrices]
    return [matrices[n] for n in np.argsort(scores)[::-1][:keep]]


def refine_all(
    matrices: Sequence[Matrix], climb: Callable[[Matrix], Match], threads: int, keep: int, half_size_mm: float = 70.0
) -> list[Match]:
    """Climb from every start and keep the best that differ, best first; the same for any number of threads."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        found = sorted(pool.map(climb, matrices), key=lambda match: -match.score)
    kept: list[Match] = []
    for match in found:
        if len(kept) < keep and all(distance_mm(match.matrix, other.matrix, half_size_mm) > APART_MM for other in kept):
            kept.append(match)
    return kept


def distance_mm(first: Matrix, second: Matrix, half_size_mm: float) -> float:
    """Largest distance in MNI between what two maps make of the corners of a cube around the pivot."""
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.column_stack([half_size_mm * signs, np.ones(8)])
    return float(np.linalg.norm(corners @ (first - second).T, axis=1).max())


def _turn(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    return Rotation.from_rotvec(vector).as_matrix()


def _cross(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _turn_slopes(vector: Float[np.ndarray, "3"]) -> list[Float[np.ndarray, "3 3"]]:
    """Derivatives of the rotation in the three components of its vector."""
    square = float(vector @ vector)
    axes = np.eye(3)
    if square < 1e-16:
        return [_cross(axis) for axis in axes]
    turn = _turn(vector)
    return [
        (vector[n] * _cross(vector) + _cross(np.cross(vector, (np.eye(3) - turn) @ axes[n]))) / square @ turn
        for n in range(3)
    ]


def _similar(parameters: Parameters, start: Matrix) -> Matrix:
    linear = np.exp(parameters[3] / RADIUS_MM) * _turn(parameters[:3] / RADIUS_MM) @ start[:, :3]
    return np.column_stack([linear, start[:, 3] + parameters[4:]])


def _similar_gradient(parameters: Parameters, start: Matrix, slope: Matrix) -> Parameters:
    scale = np.exp(parameters[3] / RADIUS_MM)
    inner = slope[:, :3] @ start[:, :3].T
    turns = [scale * np.sum(inner * turn) for turn in _turn_slopes(parameters[:3] / RADIUS_MM)]
    grown = scale * np.sum(inner * _turn(parameters[:3] / RADIUS_MM))
    return np.concatenate([np.array([*turns, grown]) / RADIUS_MM, slope[:, 3]])


def _affine(parameters: Parameters, start: Matrix) -> Matrix:
    linear = (np.eye(3) + parameters[:9].reshape(3, 3) / RADIUS_MM) @ start[:, :3]
    return np.column_stack([linear, start[:, 3] + parameters[9:]])


def _affine_gradient(parameters: Parameters, start: Matrix, slope: Matrix) -> Parameters:  # noqa: ARG001 - as Family
    inner = slope[:, :3] @ start[:, :3].T
    return np.concatenate([inner.ravel() / RADIUS_MM, slope[:, 3]])


SIMILARITY = Family(size=7, matrix=_similar, gradient=_similar_gradient)
"""Turn, one scale, shift."""
AFFINE = Family(size=12, matrix=_affine, gradient=_affine_gradient)
"""Any linear map and a shift."""

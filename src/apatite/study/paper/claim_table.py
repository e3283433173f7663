"""The first paper's claims, each as the differences that would have to be there.

Source: Jin et al. 2025 (arXiv 2507.01744): abstract, Tables 2 and 3, and the results section.
Differs: the paper shows one training per model and no interval of a difference; here a claim needs both. The stricter
forms, against a calibrated nnU-Net, are ours: the paper calibrates its own models only.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.arms import (
    DECODERS,
    MODELS,
    PATCHES,
    THICK_MM,
    UPSAMPLED,
    calcium_tertiles_mm3,
    from_scratch,
    is_thick,
    nnunet,
    pretrained,
)
from apatite.study.paper.claims import Claim
from apatite.study.paper.contrasts import RIGHT_QUARTILE, Membership
from apatite.study.paper.results import Arm, Reading, Results
from apatite.study.paper.verdict import Part

MARGIN_SIZE: Final = 0.02
"""Of Dice between embedding sizes; the paper's own differ by 0.012."""
MARGIN_QUARTILE: Final = 0.02
"""Of the share of cases in the right quartile."""


def _minus(title: str, first: Arm, second: Arm, inside: Membership | None = None) -> Part:
    return Part(title=title, terms=((1.0, first), (-1.0, second)), inside=inside)


def _against_scratch(results: Results) -> list[Part]:
    return [_minus("pre-trained − scratch", pretrained(results), from_scratch(results))]


def _against_nnunet(reading: Reading) -> Callable[[Results], list[Part]]:
    def parts(results: Results) -> list[Part]:
        baseline = nnunet(results, reading)
        return [_minus(f"calibrated ViT − {baseline.title}", pretrained(results), baseline)]

    return parts


def _at(results: Results, decoder: str, patch: int) -> Arm:
    return results.arm(f"{decoder}, patch {patch}", init="mae", decoder=decoder, patch=patch)


def _smaller_patches(results: Results) -> list[Part]:
    return [
        _minus(f"{decoder}: patch {small} − {large}", _at(results, decoder, small), _at(results, decoder, large))
        for decoder in DECODERS
        for small, large in pairwise(PATCHES)
    ]


def _least_degraded(results: Results) -> list[Part]:
    small, large = PATCHES[0], PATCHES[-1]
    unetr = ((-1.0, _at(results, "unetr", small)), (1.0, _at(results, "unetr", large)))
    return [
        Part(
            title=f"what {decoder} loses from patch {small} to {large} − what unetr loses",
            terms=((1.0, _at(results, decoder, small)), (-1.0, _at(results, decoder, large)), *unetr),
        )
        for decoder in DECODERS
        if decoder != "unetr"
    ]


def _best_and_poor(results: Results) -> list[Part]:
    small, large = PATCHES[0], PATCHES[-1]
    others = [decoder for decoder in DECODERS if decoder != "mae"]
    return [
        _minus(f"patch {small}: mae − {other}", _at(results, "mae", small), _at(results, other, small))
        for other in others
    ] + [
        _minus(f"patch {large}: {other} − mae", _at(results, other, large), _at(results, "mae", large))
        for other in others
    ]


def _sizes(results: Results) -> list[Part]:
    arms = {model: results.arm(model, init="mae", model=model) for model in MODELS}
    pairs = [("vitiac-m", "vitiac-s"), ("vitiac-l", "vitiac-m"), ("vitiac-l", "vitiac-s")]
    return [_minus(f"{first} − {second}", arms[first], arms[second]) for first, second in pairs]


def _upsamplings(results: Results) -> list[Part]:
    parts = []
    for decoder in UPSAMPLED:
        nearest, transposed = (
            results.arm(f"{decoder}, {way}", init="mae", decoder=decoder, upsampling=way)
            for way in ("nearest", "transposed")
        )
        parts.append(_minus(f"{decoder}: nearest − transposed", nearest, transposed))
    return parts


def _thick_slices(results: Results) -> list[Part]:
    title = "(ViT − nnU-Net) in thick slices − the same in thin ones"
    return [_minus(title, pretrained(results), nnunet(results, "raw"), is_thick)]


def _weak_on_small(results: Results) -> list[Part]:
    arm = pretrained(results)
    small, large = calcium_tertiles_mm3(results, arm)

    def medium_or_small(case: CaseOutcome) -> bool | None:
        return None if case.reference_mm3 > large else case.reference_mm3 > small

    def large_or_small(case: CaseOutcome) -> bool | None:
        return True if case.reference_mm3 > large else False if case.reference_mm3 <= small else None

    return [
        Part(title="medium − small calcium", terms=((1.0, arm),), inside=medium_or_small),
        Part(title="large − small calcium", terms=((1.0, arm),), inside=large_or_small),
    ]


CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        key="pre-training",
        sentence="Pre-training beats training from scratch; both calibrated.",
        paper="Dice 0.651 against 0.371",
        parts=_against_scratch,
    ),
    Claim(
        key="nnU-Net",
        sentence="The calibrated ViT beats nnU-Net as it is.",
        paper="+3.2 points of Dice in the text, +3.0 by its Table 2",
        parts=_against_nnunet("raw"),
    ),
    Claim(
        key="nnU-Net, calibrated",
        sentence="The calibrated ViT beats a calibrated nnU-Net (stricter than the paper).",
        paper="not shown",
        parts=_against_nnunet("calibrated"),
    ),
    Claim(
        key="patch size",
        sentence="Smaller patches help every decoder.",
        paper="patches of 4, 8 and 16 voxels, four decoders",
        parts=_smaller_patches,
        needs_paper_patch=True,
    ),
    Claim(
        key="UNETR",
        sentence="UNETR loses least with larger patches.",
        paper="its Dice falls least from patch 4 to 16",
        parts=_least_degraded,
        needs_paper_patch=True,
    ),
    Claim(
        key="MAE decoder",
        sentence="The MAE decoder is the best at patch 4 and poor at patch 16.",
        paper="Dice 0.606 at patch 4 (0.538 to 0.605 for the others, S)",
        parts=_best_and_poor,
        needs_paper_patch=True,
    ),
    Claim(
        key="embedding size",
        sentence=f"Embedding size matters little: S, M and L lie within {MARGIN_SIZE:g}.",
        paper="Dice 0.606, 0.602, 0.614 with the MAE decoder",
        parts=_sizes,
        rule="alike",
        margin=MARGIN_SIZE,
    ),
    Claim(
        key="upsampling",
        sentence="Interpolation gains no Dice over transposed convolution in every decoder (smoothness is not judged).",
        paper="interpolation preferable: smoother, without a consistent gain in Dice",
        parts=_upsamplings,
        rule="no gain",
    ),
    Claim(
        key="thick slices",
        sentence=f"The calibrated ViT loses less than nnU-Net in thick slices (above {THICK_MM:g} mm).",
        paper="more robust to higher slice thickness",
        parts=_thick_slices,
    ),
    Claim(
        key="small calcium",
        sentence="Strong on medium and large calcium, weak on small (tertiles of the reference volume).",
        paper="by volume group",
        parts=_weak_on_small,
    ),
    Claim(
        key="burden groups",
        sentence="The calibrated ViT puts more cases into the right quartile than nnU-Net as it is.",
        paper="153 against 105 of 209",
        quantity=RIGHT_QUARTILE,
        parts=lambda results: [_minus("share right, ViT − nnU-Net", pretrained(results), nnunet(results, "raw"))],
        margin=MARGIN_QUARTILE,
    ),
    Claim(
        key="burden groups, calibrated",
        sentence="The same against a calibrated nnU-Net (stricter than the paper).",
        paper="not shown",
        quantity=RIGHT_QUARTILE,
        parts=lambda results: [
            _minus("share right, ViT − nnU-Net, calibrated", pretrained(results), nnunet(results, "calibrated"))
        ],
        margin=MARGIN_QUARTILE,
    ),
)
"""In the order of the page."""

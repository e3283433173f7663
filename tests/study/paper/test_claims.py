"""The claims on sweeps in which each is made true or false."""

from typing import Any

import pytest

from apatite.study.paper.claim_table import CLAIMS
from apatite.study.paper.claims import Claim, Finding, find
from apatite.study.paper.published import BURDEN, DECODERS, MAIN, PATCH_MM, SPLITS
from apatite.study.paper.results import Results

OF_KEY = {claim.key: claim for claim in CLAIMS}


def claim(key: str) -> Claim:
    return OF_KEY[key]


def found(results: Results, key: str) -> Finding:
    return find(results, claim(key))


def add_main(sweep: Any, *, seeds: int = 3) -> None:
    """Pre-trained 0.7 when calibrated, scratch 0.4, nnU-Net 0.6, calibrated 0.75: the stricter claim is false."""
    for seed in range(seeds):
        sweep.add(sweep.noisy(0.62, 1, seed), calibrated=sweep.noisy(0.70, 2, seed), share=1.0, seed=seed)
        sweep.add(0.35, calibrated=sweep.noisy(0.40, 3, seed), seed=seed, init="scratch")
        sweep.add(sweep.noisy(0.60, 4, seed), calibrated=sweep.noisy(0.75, 5, seed), share=1.4, seed=seed, arm="nnunet")


def test_the_main_claims(sweep: Any):
    add_main(sweep)
    results = sweep.results()
    assert found(results, "pre-training").word == "holds"
    assert found(results, "nnU-Net").word == "holds"
    assert found(results, "nnU-Net, calibrated").word == "does not hold"
    burden = found(results, "burden groups")
    assert burden.word == "holds"
    # Volumes as they are are always right; larger ones rarely.
    (part,) = burden.parts.values()
    assert part.difference is not None
    assert part.difference.value > 0.3
    assert found(results, "embedding size").reason == "not run: vitiac-m, vitiac-s, vitiac-l"


def test_a_baseline_that_was_not_run_wins_and_loses_nothing(sweep: Any):
    for seed in range(3):
        sweep.add(0.7, seed=seed)
    results = sweep.results()
    for key in ("nnU-Net", "nnU-Net, calibrated", "thick slices", "burden groups"):
        finding = found(results, key)
        assert finding.word == "not decidable"
        assert finding.reason.startswith("not run: nnU-Net")


def add_patches(sweep: Any, table: dict[str, tuple[float, float, float]], seeds: int = 3) -> None:
    """Decoder → Dice at patches of 4, 8 and 16."""
    for decoder, levels in table.items():
        for patch, level in zip((4, 8, 16), levels, strict=True):
            for seed in range(seeds):
                sweep.add(level, decoder=decoder, patch=patch, seed=seed, cases=6)


AS_CLAIMED = {
    "mae": (0.70, 0.50, 0.20), "upscale": (0.62, 0.50, 0.40), "sfpn": (0.62, 0.50, 0.40), "unetr": (0.55, 0.50, 0.45),
}  # fmt: skip


def test_patches_as_the_paper_has_them(sweep: Any):
    sweep.tier = "paper"
    add_patches(sweep, AS_CLAIMED)
    results = sweep.results()
    for key in ("patch size", "UNETR", "MAE decoder"):
        assert found(results, key).word == "holds", key
    assert len(found(results, "patch size").parts) == 8
    assert len(found(results, "UNETR").parts) == 3


def test_patches_too_coarse_for_the_claim(sweep: Any):
    assert sweep.tier == "small"
    add_patches(sweep, AS_CLAIMED)
    results = sweep.results()
    for key in ("patch size", "UNETR", "MAE decoder"):
        finding = found(results, key)
        assert finding.word == "not decidable"
        assert finding.reason == "the smallest patch here is 3.5 × 3.5 × 8 mm; the paper's is 1.76 × 1.76 × 4 mm"
        # The differences themselves are shown all the same.
        assert all(part.word == "holds" for part in finding.parts.values())


def test_a_single_finer_patch_does_not_open_the_claim(sweep: Any):
    add_patches(sweep, AS_CLAIMED)
    sweep.add(0.8, decoder="mae", patch=2, cases=6)
    assert {found(sweep.results(), key).word for key in ("patch size", "UNETR", "MAE decoder")} == {"not decidable"}


def test_one_decoder_against_the_claim_is_enough(sweep: Any):
    sweep.tier = "paper"
    add_patches(sweep, {**AS_CLAIMED, "sfpn": (0.50, 0.60, 0.40), "mae": (0.70, 0.60, 0.50)})
    results = sweep.results()
    smaller = found(results, "patch size")
    assert smaller.word == "does not hold"
    assert smaller.parts["sfpn: patch 4 − 8"].word == "does not hold"
    assert found(results, "MAE decoder").word == "does not hold"


@pytest.mark.parametrize(("large", "word"), [(0.605, "holds"), (0.66, "does not hold")])
def test_embedding_sizes(sweep: Any, large: float, word: str):
    for model, level in (("vitiac-s", 0.6), ("vitiac-m", 0.6), ("vitiac-l", large)):
        for seed in range(3):
            sweep.add(level, model=model, seed=seed)
    assert found(sweep.results(), "embedding size").word == word


@pytest.mark.parametrize(("level", "word"), [(0.5, "does not hold"), (0.6, "holds")])
def test_a_gain_in_some_decoders_is_not_consistent(sweep: Any, level: float, word: str):
    # Nearest 0.6 everywhere; transposed 0.5 in two decoders and `level` in the third.
    for seed in range(3):
        for decoder in ("unetr", "sfpn", "upscale"):
            sweep.add(0.6, decoder=decoder, seed=seed)
            transposed = level if decoder == "sfpn" else 0.5
            sweep.add(transposed, decoder=decoder, upsampling="transposed", seed=seed)
    assert found(sweep.results(), "upsampling").word == word


@pytest.mark.parametrize(("thick", "word"), [(0.7, "holds"), (0.5, "does not hold"), (0.605, "does not hold")])
def test_thick_slices(sweep: Any, thick: float, word: str):
    # nnU-Net falls from 0.7 to 0.6 in thick slices, the ViT to `thick`; the third and fourth of five cases are thick.
    for seed in range(3):
        sweep.add(lambda number: thick if number % 5 in (2, 3) else 0.7, seed=seed)
        sweep.add(lambda number: 0.6 if number % 5 in (2, 3) else 0.7, seed=seed, arm="nnunet")
    assert found(sweep.results(), "thick slices").word == word


@pytest.mark.parametrize(("small", "word"), [(0.4, "holds"), (0.9, "does not hold")])
def test_small_calcium(sweep: Any, small: float, word: str):
    for seed in range(3):
        sweep.add(lambda number: small if number < 5 else 0.7, seed=seed)
    finding = found(sweep.results(), "small calcium")
    assert finding.word == word
    assert [part.num_cases for part in finding.parts.values()] == [11, 11]


def test_the_published_figures_fit_each_other():
    mae, baseline = MAIN["mae", "calibrated"], MAIN["nnunet", "raw"]
    assert mae.dice.value - baseline.dice.value == pytest.approx(0.030)
    assert MAIN["mae", "raw"].dice.value == DECODERS["vitiac-s", "mae"][0]
    right, of = BURDEN["mae", "calibrated"]
    assert right / BURDEN["nnunet", "raw"][0] == pytest.approx(1.46, abs=0.005)
    assert of == SPLITS["test"][2]
    assert sum(SPLITS[split][0] for split in ("pretrain", "development", "test")) == 5404
    assert pytest.approx([4 * edge for edge in (0.44, 0.44, 1.0)]) == PATCH_MM
    for printed in MAIN.values():
        assert not printed.dice.low > printed.dice.value
        assert not printed.dice.high < printed.dice.value

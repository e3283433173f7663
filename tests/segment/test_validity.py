"""Which models may speak about which scans."""

from dataclasses import replace

import pytest

from apatite.core.errors import ModelError
from apatite.io.model_card import DOMAIN_STAGES, InputSpec, ModelCard, Provenance
from apatite.segment.validity import SIMULATION_TRAINED, banner_for, phantom_stages

CARD = ModelCard(
    kind="segmenter",
    architecture={},
    recipe="r",
    input=InputSpec(shape=(8, 8, 8), spacing_mm=(1.0, 1.0, 1.0), windows_hu=((0.0, 100.0),)),
    label_names={1: "calcium"},
    domains={stage: ["real"] for stage in DOMAIN_STAGES},
    provenance=Provenance(apatite_version="0", seed=0),
    calibration={"labels": {}},
)


def card(**domains: list[str]) -> ModelCard:
    return replace(CARD, domains=CARD.domains | domains)


@pytest.mark.parametrize("stage", ["training", "calibration", "reference"])
@pytest.mark.parametrize("others", [[], ["real"]])
def test_one_phantom_in_any_stage_is_enough(stage, others):
    model = card(**{stage: [*others, "phantom"]})
    assert phantom_stages(model) == (stage,)
    with pytest.raises(ModelError, match=stage) as refused:
        banner_for(model, "real", accepts_phantom_model=False)
    assert (refused.value.code, refused.value.exit_code) == ("PHANTOM_MODEL", 3)
    assert banner_for(model, "real", accepts_phantom_model=True) == SIMULATION_TRAINED
    assert banner_for(model, "phantom", accepts_phantom_model=False) == ""


def test_real_models_and_pretraining_on_phantoms_are_accepted():
    for model in (CARD, card(pretraining=["phantom"])):
        assert banner_for(model, "real", accepts_phantom_model=False) == ""
        assert banner_for(model, "real", accepts_phantom_model=True) == ""

import pytest

from apatite.core.rng import generator
from apatite.phantom.anatomy import build_anatomy
from apatite.phantom.cohort import CohortConfig, draw_patient
from apatite.phantom.density import fill_tissue
from apatite.phantom.lesions import draw_plaques
from apatite.phantom.siphon import draw_arteries


def make_anatomy(seed, target_mm3=(90.0, 45.0), medial_share=0.5):
    rng = generator(seed, "test")
    arteries = draw_arteries(rng)
    drawn = [
        draw_plaques(rng, artery, target, medial_share) for artery, target in zip(arteries, target_mm3, strict=True)
    ]
    return build_anatomy(rng, arteries, (drawn[0][0], drawn[1][0]), [*drawn[0][1], *drawn[1][1]])


@pytest.fixture(scope="session")
def anatomy():
    return make_anatomy(3)


@pytest.fixture(scope="session")
def tissue(anatomy):
    return fill_tissue(anatomy, 0.8)


@pytest.fixture(scope="session")
def config():
    return CohortConfig(patients=3, seed=11)


@pytest.fixture(scope="session")
def patient(config):
    """The first patient of the cohort who has calcium on both sides."""
    drawn = (draw_patient(config, number) for number in range(50))
    return next(p for p in drawn if all(pieces.volume_mm3.sum() > 20 for pieces in p.calcium))

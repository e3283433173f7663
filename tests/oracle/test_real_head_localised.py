"""The whole way on one real head: DICOM, registration to a real template, the carotids' box, and what lies in it.

The foci beside the sella were picked by eye, by no expert; that they lie in the box, each on its side, shows that the
map is not mirrored, not swapped and not far off. It says nothing about what they are.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from apatite.ct.boxes import BOXES
from apatite.ct.cover import coverage, is_inside_box
from apatite.ct.localise import Localisation, localise
from apatite.ct.side import LEFT, RIGHT, sides
from apatite.ct.template import read_template
from apatite.io.dicom.reading import Reading, read_folder

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
HEAD, TEMPLATE = DATA / "head_ct_ge", DATA / "templates" / "scct.nii.gz"
BOX = BOXES["ica"]

pytestmark = pytest.mark.skipif(
    not (HEAD / "dicom").exists() or not TEMPLATE.exists(), reason="the real head or the template is not here"
)


@pytest.fixture(scope="module")
def reading() -> Reading:
    return read_folder(HEAD / "dicom")


@pytest.fixture(scope="module")
def found(reading: Reading) -> Localisation:
    return localise(reading.scan, read_template(TEMPLATE), threads=1)


def test_it_is_sure_of_itself_and_shows_the_whole_box(reading, found):
    assert (found.kind, found.flags) == ("affine", ())
    assert coverage(reading.scan, found.pose, BOX).fraction == 1.0
    # An independent registration (picsl-greedy, to the same template) puts the box's middle here, to about 0.8 mm.
    middle = found.pose.to_ras(BOX.centre_mni_mm)
    assert np.linalg.norm(middle - np.array([7.4, 21.7, 14.7])) < 1.5


def test_the_foci_lie_in_the_box_each_on_its_side(reading, found):
    scan = reading.scan
    foci = json.loads((HEAD / "parasellar_foci.json").read_text())["foci"]
    names = [header.path.name for header in reading.series.headers]
    is_focus = np.zeros(scan.stack.shape, dtype=bool)
    places = [(names.index(focus["file"]), focus["row"], focus["col"]) for focus in foci]
    for place in places:
        is_focus[place] = True
    assert len(places) == 11
    assert np.all(is_inside_box(scan.stack, found.pose, BOX)[is_focus])
    side = sides(is_focus, scan.stack, found.pose)
    expected = [RIGHT if focus["side"].startswith("R") else LEFT for focus in foci]
    assert [int(side[place]) for place in places] == expected

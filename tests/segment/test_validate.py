"""The development figure that chooses the weights: pooled over every case once, over annotated labels only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from apatite.engine.precision import Precision
from apatite.segment.model import Segmenter
from apatite.segment.validate import Validation


class Says(Segmenter):
    """Logits that are a function of the HU, the same for every label."""

    def __init__(self, labels: int) -> None:
        nn.Module.__init__(self)
        self.labels = labels

    def forward(self, image_hu):
        return ((image_hu - 200) / 50).expand(-1, self.labels, -1, -1, -1)


@pytest.mark.parametrize("batch", [1, 4, 7, 50])
def test_soft_dice_by_hand_whatever_the_batch(head_study, tiny, batch):
    prepared = head_study.open()
    rows = prepared.case_index("development")
    probability = 1 / (1 + np.exp(-(prepared.images[rows].astype(float) - 200) / 50))
    target = prepared.fractions[rows][:, 0] / 255.0
    by_hand = 2 * (probability * target).sum() / (probability + target).sum()
    entropy = -(target * np.log(probability) + (1 - target) * np.log1p(-probability)).mean()
    found = validation_of(Says(1), prepared, replace(tiny, batch=batch)).check(1)
    assert found["score"] == found["development_dice"] == pytest.approx(by_hand, rel=1e-4)
    if batch in (1, 7, 50):  # equal batches, so that the mean of means is the mean
        assert found["development_entropy"] == pytest.approx(entropy, rel=1e-3)


def test_a_vendor_that_is_held_out_chooses_no_weights(head_study, tiny):
    prepared = head_study.open()
    strangers = set(prepared.case_index("development")[::2].tolist())
    cases = tuple(replace(c, vendor="GE" if row in strangers else "") for row, c in enumerate(prepared.cases))
    mixed = replace(prepared, manifest=replace(prepared.manifest, cases=cases))
    looked_at = [
        case_id
        for batch in validation_of(Says(1), mixed, replace(tiny, hold_out=("vendor=GE",))).batches
        for case_id in batch.case_ids
    ]
    assert len(looked_at) == 3
    assert not set(looked_at) & {prepared.cases[row].case_id for row in strangers}


def validation_of(network, prepared, config):
    return Validation(network, prepared, config, Precision(threads=1))


def test_a_label_that_was_looked_for_nowhere_does_not_lower_the_figure(body_study, tiny):
    prepared = body_study.open()
    config = replace(tiny, crop=(8, 16, 24))
    both = validation_of(Says(2), prepared, config).check(1)["score"]
    prepared.is_annotated[:, 1] = False
    validation = validation_of(Says(2), prepared, config)
    left = validation.check(1)["score"]
    shared = total = torch.zeros(())
    for batch in validation.batches:
        probability = ((batch.images_hu[:, 0] - 200) / 50).sigmoid()
        shared = shared + 2 * (probability * batch.targets[:, 0]).sum()
        total = total + (probability + batch.targets[:, 0]).sum()
    assert left == pytest.approx(float(shared / total), rel=1e-4)
    assert both != left


def test_every_volume_is_cropped_twice_and_always_in_the_same_place(body_study, tiny):
    prepared = body_study.open()
    config = replace(tiny, crop=(8, 16, 24), batch=5)
    first, again = (validation_of(Says(2), prepared, config) for _ in range(2))
    names = [name for batch in first.batches for name in batch.case_ids]
    assert sorted(names) == sorted([f"body-{number}" for number in range(4, 10)] * 2)
    for one, other in zip(first.batches, again.batches, strict=True):
        assert torch.equal(one.images_hu, other.images_hu)


def test_nothing_to_judge_by(head_study, tiny, monkeypatch):
    prepared = head_study.open()
    monkeypatch.setattr(type(prepared), "case_index", lambda *_: np.array([], dtype=np.int64))
    assert validation_of(Says(1), prepared, tiny).check(1) == {}

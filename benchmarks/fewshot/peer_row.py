"""A row of the peer: train for its seconds, predict with MONAI's sliding windows, judge by the same lines as ours."""

import warnings

import numpy as np
import torch

from apatite.core.scan import PADDING_HU
from apatite.core.volume import Volume
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.store import Prepared
from apatite.segment.predict import Predictor
from fewshot.folders import Work, first_training_cases, num_annotated, open_base, open_view
from fewshot.judging import judge_on_development
from fewshot.ours import settings_of, view_of
from fewshot.peer import PeerConfig, PeerNetwork, make_network, peer_batches, plain, train_peer
from fewshot.peer_seen import PEER_CHECK_CASES
from fewshot.results import Result, quiet_s, read_results
from fewshot.rows import PEER_CHECK, Row
from fewshot.variants import STANDARD, finetune_config, precision


class PeerPredictor(Predictor):
    """The peer behind the interface of our own models; only what happens on the network's grid is MONAI's.

    Args:
        network: Trained.
        prepared: What it was trained on.
        config: Its run.
    """

    def __init__(self, network: PeerNetwork, prepared: Prepared, config: PeerConfig) -> None:
        self.peer, self.config, self.digest = network, config, ""
        self.card = ModelCard(
            kind="segmenter",
            architecture={"network": "monai.networks.nets.DynUNet"},
            recipe="peer",
            input=InputSpec(
                shape=config.crop,
                spacing_mm=prepared.grid(0).spacing_mm,
                windows_hu=config.windows_hu,
                kind=prepared.kind,
            ),
            label_names=dict(prepared.manifest.label_names),
            domains={"pretraining": [], "training": [], "calibration": [], "reference": []},
            provenance=Provenance(apatite_version="", seed=config.seed),
        )

    @torch.inference_mode()
    def predict_on_grid(self, volume: Volume) -> np.ndarray:
        """Probability on the network's grid, blended by MONAI as our own windows are: half overlap, Gaussian."""
        from monai.inferers import sliding_window_inference

        image = torch.from_numpy(np.ascontiguousarray(volume.voxels, dtype=np.float32))[None, None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI indexes by lists, which torch warns of
            found = sliding_window_inference(
                image, self.config.crop, 2, self._probability, overlap=0.5, mode="gaussian", cval=PADDING_HU
            )
        assert isinstance(found, torch.Tensor)
        return found[0].numpy()

    def _probability(self, windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.is_bf16):
            logits = self.peer(windows)
        return logits.float().sigmoid()


def peer_config(row: Row, budget_s: float) -> PeerConfig:
    """The peer with our crop, windows and threads."""
    ours = finetune_config(STANDARD, row.seed)
    assert ours.crop is not None
    return PeerConfig(
        crop=ours.crop,
        windows_hu=ours.windows_hu,
        budget_s=budget_s,
        seed=row.seed,
        is_bf16=precision(1).format == "bf16",
    )


def run_peer(row: Row, work: Work, budget_s: float | None = None) -> Result:
    """Train and judge the peer.

    Args:
        row: Which.
        work: Where.
        budget_s: Instead of the row's own seconds, for a short look.
    """
    is_check = row.name == PEER_CHECK
    if is_check:
        labelled = first_training_cases(open_base(work).manifest, row.labels)
        prepared = open_view(work, f"first-{row.labels}", labelled)
    else:
        prepared, labelled = view_of(work, row)
    done = read_results(work.results)
    seconds = budget_s or row.budget_s or sum(quiet_s(done[name], done) for name in row.as_long_as)
    config = peer_config(row, seconds)
    torch.set_num_threads(precision(1).threads)
    network = make_network(config, len(prepared.label_values))
    batches = peer_batches(prepared, config, finetune_config(STANDARD, row.seed))
    steps, spent = train_peer(network, batches, config, work.run(row.name))
    judged = judge_on_development(
        PeerPredictor(network, prepared, config), prepared, PEER_CHECK_CASES if is_check else None
    )
    return Result(
        row=row.name,
        settings=settings_of(row),
        config=plain(config),
        steps=steps,
        training_s=round(spent, 3),
        evaluation_s=judged.seconds,
        labelled=labelled,
        num_annotated=num_annotated(prepared, labelled),
        outcomes=judged.outcomes,
        facts={"parameters": sum(weight.numel() for weight in network.parameters())},
    )

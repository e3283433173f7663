"""From a run's configuration and data to its method, its networks, and the crops that they are shown."""

from dataclasses import replace

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.types import Edges
from apatite.data.sources import crop_of
from apatite.data.views import ViewPlan
from apatite.io.store import Prepared
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.models import ModelSize, model_size
from apatite.nn.swin.config import SwinConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS, Method


def method_of(config: PretrainConfig) -> Method:
    """The method of a run with what the run changes about it.

    Raises:
        ConfigError: there is no such method, or it has nothing of what is changed.
    """
    method = choose(METHODS, config.method, "method").reweighted(config.weights)
    if config.hidden_ratio is not None:
        if method.hiding.ratio is None:
            raise ConfigError(
                f"hidden_ratio {config.hidden_ratio}, but {config.method} hides nothing: it would be another method",
                where="hidden_ratio",
                fix="leave it out, or use a method that hides, such as itd_only for dino",
            )
        lowest = method.hiding.lowest
        is_above = lowest is not None and lowest < config.hidden_ratio
        method = replace(
            method,
            hiding=replace(method.hiding, ratio=config.hidden_ratio, lowest=lowest if is_above else None),
        )
    if config.local_views and not any("itd" in terms for terms in method.branches.values()):
        raise ConfigError(
            "no term of the method reads local views",
            where="local_views",
            fix="leave it out, or use a method with itd, such as dino",
        )
    if config.local_views is not None:
        method = replace(method, views=replace(method.views, local_count=config.local_views))
    return replace(method, teaching=config.teaching.applied_to(method.teaching))


def shapes_of(config: PretrainConfig, prepared: Prepared) -> Shapes:
    """The networks of a run on a prepared folder.

    Raises:
        ConfigError: the crop is missing, or does not suit the model or the data.
    """
    size, crop, method = model_size(config.model), view_edges(config, prepared), method_of(config)
    encoder = size.encoder(
        crop=crop, patch=config.patch, windows_hu=config.windows_hu, stem=config.stem, drop_path=config.drop_path
    )
    has_unetrpp = "unetrpp" in method.branches
    return Shapes(
        encoder=encoder,
        decoder=size.decoder if isinstance(size, ModelSize) else TokenDecoderConfig(),
        unetrpp=config.unetrpp.config(crop, config.windows_hu) if has_unetrpp else None,
        projection=config.projection,
        contrast=config.contrast,
    )


def view_edges(config: PretrainConfig, prepared: Prepared) -> Edges:
    """What a network of a run is given: all of a region, a crop of a volume, or a view of either.

    Raises:
        ConfigError: it is not said how large a view is, or it is larger than a region.
    """
    if prepared.kind != "region" or method_of(config).views.is_whole:
        return crop_of(prepared, config.crop)
    depth, height, width = prepared.images.shape[1:]
    if config.crop is None or any(want > have for want, have in zip(config.crop, (depth, height, width), strict=True)):
        raise ConfigError(
            f"the method shows views of a region of {(depth, height, width)}, and crop is {config.crop}",
            where="crop",
            fix="give the edges of a view, no longer than the region's",
        )
    return config.crop


def parent_edges(config: PretrainConfig, prepared: Prepared) -> Edges | None:
    """What views are cut from: crops of these edges of volumes, or `None` for regions, which come whole.

    Raises:
        ConfigError: a parent is given where there are no views, for regions, or smaller than a view.
    """
    plan = method_of(config).views
    if prepared.kind == "region" or plan.is_whole:
        if config.parent is not None:
            why = "regions come whole" if prepared.kind == "region" else "the method shows the crop itself"
            raise ConfigError(
                f"parent {config.parent}, but {why}",
                where="parent",
                fix="leave it out",
            )
        if plan.is_whole:
            return config.crop  # one that is not the region's is refused where it is opened
    encoder = shapes_of(config, prepared).encoder
    if prepared.kind == "region":
        depth, height, width = prepared.images.shape[1:]
        _refuse_equal_views(plan, (depth, height, width), encoder)
        return None
    parent = config.parent or plan.parent_of(encoder.crop, encoder.cell)
    if any(have < want for have, want in zip(parent, encoder.crop, strict=True)):
        raise ConfigError(
            f"views of {encoder.crop} cannot be cut from a parent of {parent}", where="parent", fix="make it larger"
        )
    _refuse_equal_views(plan, parent, encoder)
    return parent


def _refuse_equal_views(plan: ViewPlan, parent: Edges, encoder: ViTConfig | SwinConfig) -> None:
    """Refuse views that could only be cut at one place: they say nothing of each other."""
    apart = encoder.cell if plan.snaps else (1, 1, 1)
    room = [have - want for have, want in zip(parent, encoder.crop, strict=True)]
    if plan.count > 1 and all(free < step for free, step in zip(room, apart, strict=True)):
        raise ConfigError(
            f"all views of {encoder.crop} out of {parent} would be the same",
            where="crop",
            fix="use smaller views or a larger parent",
        )

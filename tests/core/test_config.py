"""Configurations: nothing unknown or of the wrong type gets through, and a written one reads back equal."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.config import dump, load, override, parse_value, read_yaml, write_yaml
from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Warmup:
    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"{self.steps} steps of warm-up", fix="use 0 or more")


@dataclass(frozen=True, kw_only=True)
class Training:
    name: str = "mae"
    crop: tuple[int, int, int] = (32, 96, 96)
    is_exact: bool = True
    folder: Path = Path("run")
    optim: Optimiser = Optimiser()
    warmup: Warmup | None = None
    terms: tuple[Optimiser, ...] = field(default=())


EVERYTHING = Training(name="x", warmup=Warmup(steps=2), terms=(Optimiser(lr=0.5), Optimiser()))


@pytest.mark.parametrize("config", [Training(), EVERYTHING])
def test_yaml_round_trip(tmp_path: Path, config: Training) -> None:
    write_yaml(tmp_path / "config.yaml", config)
    assert load(Training, read_yaml(tmp_path / "config.yaml")) == config


@given(
    name=st.sampled_from(["007", "3e4", "1e-3", "no", "null", "0x1f", "1_000", "2024-01-01", "", "naïve: #1"]),
    lr=st.floats(allow_nan=False, allow_infinity=False),
)
def test_text_that_looks_like_a_number_stays_text(
    tmp_path_factory: pytest.TempPathFactory, name: str, lr: float
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    config = Training(name=name, optim=Optimiser(lr=lr))
    write_yaml(path, config)
    assert load(Training, read_yaml(path)) == config


def test_every_default_is_written(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config.yaml", Training())
    assert read_yaml(tmp_path / "config.yaml") == dump(Training())
    assert list(dump(Training())) == ["name", "crop", "is_exact", "folder", "optim", "warmup", "terms"]


def test_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("optim: {lr: 3e-4, betas: [9e-1, 0.95]}\n")
    assert load(Training, read_yaml(path)).optim == Optimiser(lr=3e-4, betas=(0.9, 0.95))
    assert override(Training(), ["optim.lr=3e-4"]).optim.lr == 3e-4
    assert parse_value("3e-4") == 3e-4
    assert parse_value("[1, 2]") == [1, 2]
    assert parse_value("mae") == "mae"


@pytest.mark.parametrize(
    ("values", "place", "hint"),
    [
        ({"nmae": "x"}, "config", "did you mean 'name'"),
        ({"optim": {"lrr": 1}}, "config.optim", "did you mean 'lr'"),
        ({"warmup": {"step": 1}}, "config.warmup", "did you mean 'steps'"),
        ({"terms": [{}, {"beta": 1}]}, "config.terms", "did you mean 'betas'"),
    ],
)
def test_unknown_keys_suggest_the_nearest(values: dict, place: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        load(Training, values)
    assert caught.value.where == place


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"optim": {"lr": "fast"}}, "config.optim.lr"),
        ({"crop": [1, 2]}, "config.crop"),
        ({"crop": [1, 2, 3.5]}, "config.crop.2"),
        ({"is_exact": "perhaps"}, "config.is_exact"),
        ({"optim": 3}, "config.optim"),
    ],
)
def test_wrong_types_name_their_place(values: dict, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Training, values)
    assert caught.value.where.startswith(place)


def test_validation_of_the_class_itself_is_heard() -> None:
    with pytest.raises(ConfigError, match="-1 steps of warm-up"):
        load(Training, {"warmup": {"steps": -1}})


def test_override_changes_only_what_is_named() -> None:
    changed = override(EVERYTHING, ["optim.lr=0.25", "crop=[8, 16, 24]", "warmup.steps=9", "is_exact=false"])
    assert changed.optim == Optimiser(lr=0.25)
    assert (changed.crop, changed.warmup, changed.is_exact) == ((8, 16, 24), Warmup(steps=9), False)
    assert (changed.name, changed.terms, changed.folder) == (EVERYTHING.name, EVERYTHING.terms, EVERYTHING.folder)
    assert override(EVERYTHING, []) == EVERYTHING
    assert override(EVERYTHING, ["name=a=b"]).name == "a=b"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.lr", "not an assignment"),
        ("=3", "not an assignment"),
        ("optm.lr=3", "did you mean 'optim'"),
        ("optim.lrr=3", "did you mean 'lr'"),
        ("warmup.steps=3", "set warmup whole"),
        ("name.x=3", "no keys below"),
    ],
)
def test_overrides_that_make_no_sense(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(Training(), [assignment])


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1\n", "!!python/object/apply:os.getcwd []\n", "just text"])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        read_yaml(path)
    with pytest.raises(ConfigError, match="missing"):
        read_yaml(tmp_path / "missing.yaml")


def test_a_mapping_of_names_takes_new_names_and_a_configuration_does_not() -> None:
    @dataclass(frozen=True)
    class Inner:
        table: dict[str, float] = field(default_factory=dict)
        number: int = 1

    @dataclass(frozen=True)
    class Outer:
        inner: Inner = field(default_factory=Inner)
        weights: dict[str, float] = field(default_factory=dict)

    made = override(Outer(), ["weights.topology=0.3", "inner.table.a=2", "weights.topology=0.4"])
    assert made == Outer(inner=Inner(table={"a": 2.0}), weights={"topology": 0.4})
    for wrong in ("inner.nothing=1", "inner.number.deeper=1", "nothing.a=1"):
        with pytest.raises(ConfigError):
            override(Outer(), [wrong])
    with pytest.raises(ConfigError, match="valid number"):
        override(Outer(), ["weights.topology=much"])


def test_a_part_given_in_part_keeps_the_default_of_its_owner() -> None:
    @dataclass(frozen=True)
    class Inner:
        least: float = 0.0
        name: str = "a"

    @dataclass(frozen=True)
    class Middle:
        inner: Inner = field(default_factory=lambda: Inner(least=0.02))

    @dataclass(frozen=True)
    class Outer:
        middle: Middle = field(default_factory=lambda: Middle(inner=Inner(least=0.5)))

    wanted = Outer(middle=Middle(inner=Inner(least=0.5, name="b")))
    assert load(Outer, {"middle": {"inner": {"name": "b"}}}) == wanted
    assert override(Outer(), ["middle.inner.name=b"]) == wanted
    assert override(Outer(), ["middle.inner={name: b}"]) == wanted
    assert load(Outer, {"middle": {}}) == Outer()
    assert load(Middle, {"inner": {"name": "b"}}) == Middle(inner=Inner(least=0.02, name="b"))

import pytest

import apatite


@pytest.mark.parametrize("name", apatite.__all__)
def test_every_public_name_loads(name: str):
    assert getattr(apatite, name).__doc__


def test_the_face_is_small_and_sorted():
    assert len(apatite.__all__) <= 15
    assert apatite.__all__ == sorted(apatite.__all__)
    assert set(apatite.__all__) <= set(dir(apatite))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        apatite.pretrian  # noqa: B018

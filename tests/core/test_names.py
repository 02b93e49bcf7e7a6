"""Names are matched as people write them, and an unknown one is never guessed."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ridgeline.core.errors import SpecError, UnknownNameError
from ridgeline.core.names import Names, fold

CHIPS = Names(
    "chip", {"h100_sxm": ("NVIDIA H100 80GB HBM3",), "a100_sxm_80": ("A100-SXM4-80GB",)}, listing="see the list"
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("h100_sxm", "h100_sxm"),
        ("H100-SXM", "h100_sxm"),
        ("h100 sxm", "h100_sxm"),
        ("H100/SXM", "h100_sxm"),
        ("nvidia h100 80gb hbm3", "h100_sxm"),
        ("a100sxm480gb", "a100_sxm_80"),
    ],
)
def test_spellings_of_one_thing_are_one_name(written: str, canonical: str) -> None:
    assert CHIPS.resolve(written) == canonical
    assert written in CHIPS


@pytest.mark.parametrize("unknown", ["h10", "", "h100.sxm", "tpu"])
def test_an_unknown_name_is_an_error_and_never_a_default(unknown: str) -> None:
    assert unknown not in CHIPS
    with pytest.raises(UnknownNameError) as caught:
        CHIPS.resolve(unknown, at="study.yaml:12:11 cluster.device")
    assert caught.value.at == "study.yaml:12:11 cluster.device"
    assert "see the list" in caught.value.fix
    assert repr(unknown) in caught.value.what


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"at chip; did you mean 'h100_sxm'"):
        CHIPS.resolve("h100_sxn")


def test_two_things_cannot_claim_one_name() -> None:
    with pytest.raises(SpecError, match="two models claim the name 'LLAMA 3'") as caught:
        Names("model", {"llama-3": (), "other": ("LLAMA 3",)})
    assert (caught.value.at, caught.value.got) == ("other", "llama-3")


def test_one_thing_may_repeat_its_name() -> None:
    assert Names("model", {"llama-3": ("llama_3", "Llama 3")}).resolve("LLAMA3") == "llama-3"


@given(name=st.text(max_size=30))
def test_folding_twice_changes_nothing(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(name=st.text(st.characters(codec="ascii"), min_size=1, max_size=20), mark=st.sampled_from("_-/ \t"))
def test_separators_and_case_never_matter(name: str, mark: str) -> None:
    assume(fold(name))
    registry = Names("thing", {name: ()})
    assert registry.resolve(mark.join(name.upper())) == name


def test_canonical_names_are_listed_once_and_in_order() -> None:
    assert CHIPS.canonical == ("h100_sxm", "a100_sxm_80")

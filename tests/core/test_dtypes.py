"""Number formats: bytes per element are those of their specifications, and every name leads to one of them."""

import itertools

import pytest

from ridgeline.core.dtypes import DTYPE_NAMES, DTYPES, SCHEME_NAMES, SCHEMES, DType, dtype, scheme, scheme_of
from ridgeline.core.errors import UnknownNameError


@pytest.mark.parametrize(
    ("name", "element_bytes"),
    [
        ("fp64", 8),
        ("fp32", 4),
        ("tf32", 4),
        ("bf16", 2),
        ("fp16", 2),
        ("fp8", 1),
        ("int8", 1),
        # OCP Microscaling v1.0: 32 elements share one 8-bit scale.
        ("mxfp8", (32 * 8 + 8) / 32 / 8),
        ("mxfp6", (32 * 6 + 8) / 32 / 8),
        ("mxfp4", (32 * 4 + 8) / 32 / 8),
        # NVIDIA Blackwell: 16 elements share one fp8 scale.
        ("nvfp4", (16 * 4 + 8) / 16 / 8),
        # DeepSeek-V3: 128 x 128 weights share one fp32 scale.
        ("fp8_block", (128 * 128 * 8 + 32) / (128 * 128) / 8),
        # 128 weights share one 16-bit scale.
        ("int4", (128 * 4 + 16) / 128 / 8),
        # Five trits in a byte.
        ("ternary", 1 / 5),
        ("int1", 1 / 8),
    ],
)
def test_bytes_per_element_follow_the_specification(name: str, element_bytes: float) -> None:
    assert dtype(name).element_bytes == pytest.approx(element_bytes, rel=1e-12)


@pytest.mark.parametrize("found", DTYPES.values(), ids=str)
def test_scales_only_add_and_never_outweigh_the_elements(found: DType) -> None:
    assert found.bits / 8 <= found.element_bytes < 2 * found.bits / 8


def test_fewer_bits_never_take_more_room() -> None:
    for a, b in itertools.combinations(DTYPES.values(), 2):
        if a.bits < b.bits:
            assert a.element_bytes < b.element_bytes


def test_every_format_and_scheme_is_found_by_its_own_name() -> None:
    assert {name: dtype(name).name for name in DTYPES} == {name: name for name in DTYPES}
    assert {name: scheme(name).name for name in SCHEMES} == {name: name for name in SCHEMES}
    assert all(found.name == name for name, found in (*DTYPES.items(), *SCHEMES.items()))


@pytest.mark.parametrize(
    ("written", "name"),
    [("bfloat16", "bf16"), ("FP8_E4M3", "fp8"), ("float8_e4m3fn", "fp8"), ("NVFP4", "nvfp4"), ("half", "fp16")],
)
def test_formats_have_the_names_that_frameworks_give_them(written: str, name: str) -> None:
    assert dtype(written).name == name


@pytest.mark.parametrize(
    ("written", "name"),
    [("bfloat16", "bf16"), ("sq", "int8"), ("int4_awq", "int4_wo"), ("fp8-block", "fp8_block"), ("w4a16", "int4_wo")],
)
def test_schemes_have_the_names_that_the_measured_tables_give_them(written: str, name: str) -> None:
    assert scheme(written).name == name


def test_an_unknown_format_names_its_place_and_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'bf17' at kv; did you mean 'bf16'"):
        dtype("bf17", at="kv")
    with pytest.raises(UnknownNameError, match=r"unknown number format 'fp9' at dtype; did you mean 'fp8'"):
        scheme("fp9")
    assert "bf16" in DTYPE_NAMES
    assert "bf16" in SCHEME_NAMES


def test_weight_only_schemes_multiply_in_the_format_of_the_activations() -> None:
    for found in SCHEMES.values():
        if found.name.endswith("_wo"):
            assert found.weight_only
            assert found.compute == found.activation.compute
            assert not found.quantises
        if not found.weight_only:
            assert found.weight.bits == found.activation.bits


def test_a_scheme_converts_activations_only_to_eight_bits_or_fewer() -> None:
    for found in SCHEMES.values():
        assert found.quantises == (found.activation.bits <= 8)


def test_every_pair_of_formats_has_a_scheme_that_says_what_it_is() -> None:
    for weight, activation in itertools.product(DTYPES.values(), DTYPES.values()):
        found = scheme_of(weight, activation)
        assert (found.weight, found.activation) == (weight, activation)
        assert found.compute in {d.compute for d in DTYPES.values()}


def test_named_schemes_are_found_by_their_pair() -> None:
    assert scheme_of(DTYPES["int4"], DTYPES["bf16"]).name == "int4_wo"
    assert scheme_of(DTYPES["fp8"], DTYPES["fp8"]).name == "fp8"
    unnamed = scheme_of(DTYPES["mxfp6"], DTYPES["bf16"])
    assert (unnamed.name, unnamed.compute, unnamed.quantises) == ("mxfp6xbf16", "bf16", False)

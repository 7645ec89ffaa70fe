"""No part of a shown path names a patient."""

from __future__ import annotations

import pytest

from monai_anomaly.data.names import pseudonym
from monai_anomaly.data.privacy import identifying_parts, mask_path

NAME = "Müller-Lüdenscheidt^Jörg Ana"


@pytest.mark.parametrize(
    ("part", "identifier"),
    [
        ("Doe, John", "DOE^JOHN"),
        ("xdoe_1.dcm", "Doe^John"),
        ("john", "Doe=John"),
        ("Müller", NAME),
        ("Mu\u0308ller_CT", NAME),  # decomposed, as macOS writes it
        ("MUELLER", NAME),
        ("Muller", NAME),
        ("Luedenscheidt.nii.gz", NAME),
        ("muellerluedenscheidt", NAME),
        ("Müller", "Mueller^J"),
        ("analysis", NAME),  # rather one too many
        ("obrien", "O'Brien^Pat"),
        ("山田_ct", "Yamada^Tarou=山田^太郎"),
        ("김철수", "김철수"),
        ("4711", "4711"),
        ("0004711", "4711"),
        ("4711", "0004711"),
        ("CT4711_head", "4711"),
        ("0001_ct", "0001"),
        ("scan 123456789", "123456789"),
        ("2024123456789", "123456789"),
        ("pat_0815-x", "PAT-0815/X"),
        ("19700131", "19700131"),
        ("1970-01-31_CT", "19700131"),
        ("1970_01_31", "19700131"),
        ("born 31.01.1970", "19700131"),
        ("01-31-1970", "19700131"),
        ("19700131T1200", "1970.01.31"),
    ],
)
def test_what_names_a_patient(part, identifier):
    assert part in identifying_parts(["CT", part], [identifier])


@pytest.mark.parametrize(
    ("part", "identifier"),
    [
        ("CT", "CT"),
        ("HEAD_1", "Head^Test"),
        ("ab", "ab"),
        ("series 1", "1"),
        ("IM0012", "12"),
        ("14711", "4711"),
        ("47110", "4711"),
        ("IM1", "0001"),
        ("IM0001.dcm", "0000"),
        ("IM0001.dcm", ""),
        ("a/b", "^^^ ="),
        ("19700201", "19700131"),
        ("山", "山"),
    ],
)
def test_what_does_not(part, identifier):
    assert identifying_parts([part], [identifier]) == set()


def test_a_masked_file_keeps_a_plain_suffix_and_nothing_else():
    names = ["Doe_1.dcm", "Doe_2.nii.gz", "Doe.John", "1.Doe", "Doe"]
    found = identifying_parts(names, ["Doe^John"])
    assert found == {"Doe_1.dcm", "Doe_1", "Doe_2.nii.gz", "Doe_2", "Doe_2.nii", "Doe.John", "Doe", "1.Doe"}
    masks = {part: pseudonym("x", part) for part in found}
    shown = [mask_path(f"a/{name}", masks) for name in names]
    assert not any("doe" in place.lower() or "john" in place.lower() for place in shown)
    assert shown[0] == f"a/{pseudonym('x', 'Doe_1')}.dcm" and shown[1].endswith(".nii.gz") and "." not in shown[2]
    assert mask_path("Doe_1", masks) == pseudonym("x", "Doe_1")  # without its suffix the file is called the same
    assert mask_path("Doe_1.png", masks) == f"{pseudonym('x', 'Doe_1')}.png"  # and so is the picture beside it
    assert mask_path("b/c.dcm", masks) == "b/c.dcm" and mask_path("", masks) == ""


def test_canary():
    """Whatever a clinic makes of the header in its folders, nothing of it is shown."""
    header = ["Canary^Tweety^^Dr.", "CNRY-778812", "ACC90210777", "19610704", "20231224"]
    paths = [
        f"{folder}/{study}/{file}"
        for folder in ("CANARY^TWEETY", "canary, tweety", "Canary_Tweety_19610704", "CNRY778812", "cnry_778812")
        for study in ("2023-12-24 CT", "24.12.2023", "acc90210777", "20231224_CT_HEAD")
        for file in ("IM0001", "tweety_canary_1.dcm", "04.07.1961.png", "CNRY-778812-ACC90210777.nii.gz")
    ]
    masks = {}
    for path in paths:
        masks |= {part: pseudonym("x", part) for part in identifying_parts(path.split("/"), header)}
    for path in paths:
        letters = "".join(filter(str.isalnum, mask_path(path, masks).lower()))
        assert not any(
            sign in letters for sign in ("canary", "tweety", "778812", "90210777", "19610704", "04071961", "20231224", "24122023")
        ), path
    assert mask_path(paths[0], masks).endswith("/IM0001")

from __future__ import annotations

import logging
import warnings

import pytest

from monai_anomaly._optional_decoder import ignore_optional_decoder


def test_the_decoder_that_nobody_asked_for_is_not_told_of_and_other_warnings_are(monkeypatch):
    monkeypatch.setattr(logging.getLogger("monai.data.nvimgcodec_pydicom_plugin"), "level", logging.INFO)
    with pytest.warns(UserWarning, match="a warning that matters") as told:
        ignore_optional_decoder()
        warnings.warn("NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register successfully.", stacklevel=1)
        warnings.warn("a warning that matters", stacklevel=1)
    assert len(told) == 1 and not logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").isEnabledFor(logging.WARNING)

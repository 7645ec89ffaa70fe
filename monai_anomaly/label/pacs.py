"""A PACS behind DICOMweb: what is asked of it, with a sentence where it does not answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from requests import RequestException
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import HTTPError, Timeout

from ..errors import reason
from .refusals import RequestError

__all__ = ["IMAGE_MODALITIES", "Pacs", "check_uid"]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)
logging.getLogger("retrying").setLevel(logging.ERROR)  # it logs a whole traceback of what is then told in one sentence
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # a line for each request

IMAGE_MODALITIES = ("CT", "MR", "PT", "NM", "CR", "DX", "MG", "RF", "XA", "US", "OPT", "OP", "IO", "PX")
"""What is listed as images. Segmentations (SEG), parametric maps and screenshots (OT, SC), reports and plans have other modalities."""
CONNECT_SECONDS = 5.0
UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def check_uid(uid: str) -> str:
    """A UID that may be asked for and name a file; ``..`` and empty text are none.

    Raises:
        RequestError: it is none.

    Example:
        >>> check_uid("1.2.840.10008")
        '1.2.840.10008'
        >>> check_uid("../secret")
        Traceback (most recent call last):
        monai_anomaly.label.refusals.RequestError: '../secret' is no SeriesInstanceUID; expected numbers and dots, at most 64: ...
    """
    if len(uid) <= 64 and UID.fullmatch(uid):
        return uid
    raise RequestError(f"{uid[:70]!r} is no SeriesInstanceUID; expected numbers and dots, at most 64: take one that the PACS lists.", 404)


def _door(function: Callable[P, T]) -> Callable[P, T]:
    """Whatever goes wrong between here and the PACS comes out as one sentence."""

    @wraps(function)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        pacs: Any = args[0]
        try:
            return function(*args, **kwargs)
        except RequestError:
            raise
        except (NoConnection, Timeout) as error:
            found = "does not answer in time" if isinstance(error, Timeout) else "cannot be reached"
            raise RequestError(
                f"The PACS at {pacs.where} {found}; expected a DICOMweb service: start it, or check the address given as --studies.", 503
            ) from error
        except HTTPError as error:
            status = "an error" if error.response is None else f"status {error.response.status_code}"
            raise RequestError(
                f"The PACS at {pacs.where} answers with {status}; expected data: check its DICOMweb settings and who may log in.", 502
            ) from error
        except (RequestException, KeyError, IndexError, AttributeError, TypeError, ValueError, OSError) as error:
            raise RequestError(
                f"The answer of the PACS at {pacs.where} cannot be read ({reason(error)}); expected DICOMweb: check the address.", 502
            ) from error

    return asked


class Pacs:
    """What the data store asks of a PACS.

    Args:
        client: the connection. It gives up at once instead of trying for half a minute: the server answers nobody else meanwhile.

    Example:
        >>> Pacs(DICOMwebClient("http://127.0.0.1:8042/dicom-web")).where
        '127.0.0.1:8042/dicom-web'
    """

    def __init__(self, client: DICOMwebClient):
        self.client = client
        self.client.set_http_retry_params(retry=False)

    @property
    def where(self) -> str:
        """Its address, without a password that may stand in it."""
        parts = urlsplit(self.client.base_url)
        return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @_door
    def search(self, filters: Mapping[str, Any]) -> list[Dataset]:
        """Series that match, each once, in the order of their UIDs; several values of a modality, as a list or with commas, are asked for one by one.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        modality = filters.get("Modality", "")
        modalities = [part.strip() for part in (re.split(r"[,\\]", modality) if isinstance(modality, str) else modality)]
        found = {}
        for one in modalities:
            wanted = {key: value for key, value in {**filters, "Modality": one}.items() if value != ""}
            for row in self.client.search_for_series(search_filters=wanted):
                series = Dataset.from_json(row)
                found[check_uid(str(series.SeriesInstanceUID))] = series
        return [found[uid] for uid in sorted(found)]

    def series(self, uid: str) -> Dataset:
        """A series by its UID.

        Raises:
            RequestError: there is none, or the PACS does not answer as it should.
        """
        found = [series for series in self.search({"SeriesInstanceUID": check_uid(uid)}) if series.SeriesInstanceUID == uid]
        if not found:
            raise RequestError(f"There is no series {uid} in the PACS at {self.where}; expected one that it lists: check the UID.", 404)
        return found[0]

    @_door
    def instances(self, series: Dataset) -> set[str]:
        """The SOPInstanceUIDs of a series.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        rows = self.client.search_for_instances(series.StudyInstanceUID, series.SeriesInstanceUID, get_remaining=True)
        return {check_uid(str(Dataset.from_json(row).SOPInstanceUID)) for row in rows}

    @_door
    def fetch(self, series: Dataset, folder: Path) -> set[str]:
        """Write the instances of a series into a folder, one after another, and name them.

        Uncompressed, which DICOMweb gives when nothing is asked for: archives hold syntaxes that no decoder here knows. A PACS that cannot decode them
        itself is asked for what it has.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        try:
            return self._fetch(series, folder)
        except HTTPError:
            logger.info("The PACS does not decode series %s: fetched as it is stored.", series.SeriesInstanceUID)
            return self._fetch(series, folder, media_types=(("application/dicom", "*"),))

    def _fetch(self, series: Dataset, folder: Path, **asked: Any) -> set[str]:
        written = set()
        for instance in self.client.iter_series(series.StudyInstanceUID, series.SeriesInstanceUID, **asked):
            uid = check_uid(str(instance.SOPInstanceUID))
            instance.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
            written.add(uid)
        return written

    @_door
    def header(self, series: Dataset, tags: Sequence[int]) -> Dataset:
        """Some elements of the first instance of a series, without its pixels.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        (row, *_) = self.client.retrieve_series_metadata(series.StudyInstanceUID, series.SeriesInstanceUID)
        return Dataset.from_json({key: row[key] for key in (f"{tag:08X}" for tag in tags) if key in row})

    @_door
    def first_instance(self, series: Dataset) -> Dataset:
        """The one instance of a result, or the first of a series, with its pixels.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        (instance, *_) = self.client.retrieve_series(series.StudyInstanceUID, series.SeriesInstanceUID)
        return instance

    @_door
    def store(self, results: Sequence[Dataset]) -> None:
        """Store new instances in one request.

        Raises:
            RequestError: the PACS does not answer as it should, or refuses one.
        """
        answer = self.client.store_instances(results)
        stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", [])}
        missing = [result for result in results if str(result.SOPInstanceUID) not in stored]
        if missing:
            raise RequestError(
                f"The PACS at {self.where} refused {len(missing)} of {len(results)} results ({', '.join(str(one.Modality) for one in missing)}); "
                "expected it to store them: look into its log.", 502,
            )  # fmt: skip
        logger.info("Stored %d results in the PACS at %s.", len(results), self.where)

"""A PACS behind DICOMweb: what is asked of it, with a sentence where it does not answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from requests import RequestException
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import HTTPError, Timeout

from ...errors import reason
from ..refusals import RequestError

__all__ = ["IMAGE_MODALITIES", "Pacs", "check_uid"]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)
logging.getLogger("retrying").setLevel(logging.ERROR)  # it logs a whole traceback of what is then told in one sentence
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # a line for each request

IMAGE_MODALITIES = ("CT", "MR", "PT", "NM", "CR", "DX", "MG", "RF", "XA", "US", "OPT", "OP", "IO", "PX")
"""What is listed as images. Segmentations (SEG), parametric maps and screenshots (OT, SC), reports and plans have other modalities."""
CONNECT_S = 5.0
MOST_PAGES = 10_000
"""Of a list. A PACS that gives a hundred entries at a time may hold a million of one modality."""
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
        self._odd: set[str] = set()

    @property
    def where(self) -> str:
        """Its address, without a password that may stand in it."""
        parts = urlsplit(self.client.base_url)
        return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @_door
    def search(self, filters: Mapping[str, Any]) -> list[Dataset]:
        """Series that match, each once, in the order of their UIDs; several values of a modality, as a list or with commas, are asked for one by one.

        A series whose UID is none is passed over, with one warning.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        modality = filters.get("Modality", "")
        modalities = [part.strip() for part in (re.split(r"[,\\]", modality) if isinstance(modality, str) else modality)]
        found = {}
        for one in modalities:
            wanted = {key: value for key, value in {**filters, "Modality": one}.items() if value != ""}
            for uid, series in self._listed(partial(self.client.search_for_series, search_filters=wanted), "SeriesInstanceUID"):
                try:
                    found[check_uid(uid)] = series
                except RequestError as error:
                    if uid not in self._odd:
                        logger.warning("A series of the PACS at %s is passed over: %s", self.where, error)
                    self._odd.add(uid)
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
        ask = partial(self.client.search_for_instances, series.StudyInstanceUID, series.SeriesInstanceUID)
        return {check_uid(uid) for uid, _ in self._listed(ask, "SOPInstanceUID")}

    def _listed(self, ask: Callable[..., list[dict[str, Any]]], name: str) -> Iterator[tuple[str, Dataset]]:
        """What a PACS lists, by the element that names it. Many give only the first hundred at a time; one that knows no pages gives the same once more."""
        seen: set[str] = set()
        n_rows = 0
        for _ in range(MOST_PAGES):
            rows = [Dataset.from_json(row) for row in (ask(offset=n_rows) if n_rows else ask())]
            new = {str(row[name].value): row for row in rows if str(row[name].value) not in seen}
            yield from new.items()
            if not new:
                return
            seen |= {*new}
            n_rows += len(rows)
        raise RequestError(
            f"The PACS at {self.where} lists more than {len(seen):,} entries and does not end; expected the end of the list: ask for fewer with "
            "MONAI_LABEL_DICOMWEB_SEARCH_FILTER.",
            502,
        )

    @_door
    def fetch(self, series: Dataset, keep: Callable[[str, Dataset], None]) -> set[str]:
        """Ask for the instances of a series, one after another, and name them.

        Uncompressed, which DICOMweb gives when nothing is asked for: archives hold syntaxes that no decoder here knows. A PACS that cannot decode them
        itself is asked for what it has.

        Args:
            series: as the PACS lists it.
            keep: what to do with each instance, by its SOPInstanceUID; the same may come twice.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        try:
            return self._fetch(series, keep)
        except HTTPError:
            logger.info("The PACS does not decode series %s: fetched as it is stored.", series.SeriesInstanceUID)
            return self._fetch(series, keep, media_types=(("application/dicom", "*"),))

    def _fetch(self, series: Dataset, keep: Callable[[str, Dataset], None], **asked: Any) -> set[str]:
        kept = set()
        for instance in self.client.iter_series(series.StudyInstanceUID, series.SeriesInstanceUID, **asked):
            uid = check_uid(str(instance.SOPInstanceUID))
            keep(uid, instance)
            kept.add(uid)
        return kept

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

"""The rows of a table, made when they are asked for."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pieria.modalities.columns import ColumnKind
from pieria.modalities.contract import Lazy

if TYPE_CHECKING:
    import pandas


class Rows(Lazy):
    """The rows of a data frame as dictionaries (missing values are None), with the schema they were read with."""

    def __init__(self, frame: "pandas.DataFrame", kinds: tuple[ColumnKind, ...] = ()) -> None:
        self.frame, self.kinds = frame, kinds

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, places: Sequence[int]) -> "Rows":
        """The rows at these places."""
        return Rows(self.frame.iloc[np.asarray(places, dtype=np.int64)].reset_index(drop=True), self.kinds)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # column by column: a look-up for every cell would take minutes for what this does in a second
        columns = [[plain(value) for value in self.frame[name].tolist()] for name in self.frame.columns]
        names = [str(name) for name in self.frame.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))

    def digests(self) -> Iterator[bytes]:
        """Eight bytes for each row, of its values as they stand: for a million rows in a second."""
        import pandas as pd

        # columns of mixed kinds cannot be hashed as they are
        mixed = [name for name, kind in self.frame.dtypes.items() if getattr(kind, "kind", "O") == "O"]
        frame = self.frame.astype(dict.fromkeys(mixed, "string"))
        hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64)
        for value in hashes.astype("<u8"):
            yield value.tobytes()

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Rows(self.frame.iloc[place].reset_index(drop=True), self.kinds)
        return {str(name): plain(self.frame[name].iloc[place]) for name in self.frame.columns}


def plain(value: Any) -> Any:
    """A cell as Python has it: None where it is missing, a `datetime` for a date."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if isinstance(value, np.generic) else value
